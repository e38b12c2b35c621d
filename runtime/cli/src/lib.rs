//! The tracklens command.
