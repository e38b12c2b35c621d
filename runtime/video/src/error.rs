//! What can go wrong with a video, said so that the reader knows what to do.

/// An error of reading or writing video. URLs in it carry no user name or password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VideoError {
    /// FFmpeg itself cannot be used.
    #[error("FFmpeg cannot be started: {reason}")]
    Start {
        /// FFmpeg's reason.
        reason: String,
    },
    /// The address is not one that FFmpeg can take.
    #[error("{url}: not a usable path or URL: {reason}")]
    Address {
        /// The address, redacted.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such file.
    #[error(
        "{url}: no such file; check the path (relative paths start at the folder the graph runs in)"
    )]
    NoSuchFile {
        /// The path.
        url: String,
    },
    /// The path is a folder.
    #[error("{url}: expected a video file, is a folder")]
    Folder {
        /// The path.
        url: String,
    },
    /// The file has no bytes.
    #[error("{url}: the file is empty (0 bytes)")]
    Empty {
        /// The path.
        url: String,
    },
    /// The content is no video in any format FFmpeg knows.
    #[error("{url}: not a video: {found}")]
    NotAVideo {
        /// The address, redacted.
        url: String,
        /// What it seems to be instead.
        found: String,
    },
    /// A media file without a video stream.
    #[error("{url}: no video stream in this {format} file, only {found}")]
    NoVideoStream {
        /// The address, redacted.
        url: String,
        /// The container.
        format: String,
        /// The streams there are.
        found: String,
    },
    /// FFmpeg was built without the decoder.
    #[error("{url}: this FFmpeg has no decoder for {codec}")]
    NoDecoder {
        /// The address, redacted.
        url: String,
        /// The codec.
        codec: String,
    },
    /// The address cannot be opened.
    #[error("{url}: cannot be opened: {reason}")]
    Open {
        /// The address, redacted.
        url: String,
        /// FFmpeg's reason.
        reason: String,
    },
    /// The other side said nothing for too long.
    #[error("{url}: nothing came for {seconds} s")]
    Timeout {
        /// The address, redacted.
        url: String,
        /// The limit.
        seconds: u64,
    },
    /// Reading was stopped on purpose.
    #[error("{url}: stopped")]
    Stopped {
        /// The address, redacted.
        url: String,
    },
    /// Reading broke off; the frames before were good.
    #[error("{url}: broke off: {reason}")]
    Broken {
        /// The address, redacted.
        url: String,
        /// FFmpeg's reason.
        reason: String,
    },
    /// A buffer is not of the image's size.
    #[error("a {width}x{height} image needs a buffer of {expected} bytes, came {found}")]
    BufferSize {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// A size that cannot be processed.
    #[error("{width}x{height} pixels: each side should be 2 to 16384")]
    ImageSize {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// Pixels cannot be converted or scaled.
    #[error("pixels cannot be converted: {reason}")]
    Convert {
        /// FFmpeg's reason.
        reason: String,
    },
    /// No H.264 encoder works.
    #[error("{path}: no H.264 encoder works here ({reason}); install an FFmpeg with libx264")]
    NoEncoder {
        /// The file to be written.
        path: String,
        /// What was tried and why it failed.
        reason: String,
    },
    /// A file cannot be written.
    #[error("{path}: cannot be written: {reason}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}
