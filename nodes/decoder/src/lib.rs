//! Decodes H.264 video into frames.
