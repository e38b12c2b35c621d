//! Identifies tracked objects through image-recognition services.
