//! Decoding on a device (a GPU's video unit), where FFmpeg has one for it; in software otherwise.

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr;
use std::sync::Mutex;

use ffmpeg_next::ffi::{
    AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX, AVBufferRef, AVCodec, AVCodecContext, AVHWDeviceType,
    AVPixelFormat, av_buffer_ref, av_frame_copy_props, av_hwdevice_ctx_create,
    av_hwdevice_find_type_by_name, av_hwdevice_get_type_name, av_hwdevice_iterate_types,
    av_hwframe_transfer_data, avcodec_default_get_format, avcodec_get_hw_config,
};
use ffmpeg_next::frame::Video;
use ffmpeg_next::{Codec, Error, codec};

/// Which device decodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hwaccel {
    /// None: in software.
    #[default]
    None,
    /// The first that works.
    Auto,
    /// The one of this name in FFmpeg (`cuda`, `vaapi`, `qsv` …).
    Device(String),
}

impl Hwaccel {
    /// Reads the setting: `none` (or nothing), `auto`, or FFmpeg's name of a device.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "none" => Self::None,
            "auto" => Self::Auto,
            name => Self::Device(name.into()),
        }
    }

    fn types(&self) -> Vec<AVHWDeviceType> {
        const NONE: AVHWDeviceType = AVHWDeviceType::AV_HWDEVICE_TYPE_NONE;
        match self {
            Self::None => Vec::new(),
            Self::Auto => {
                // SAFETY: the function only walks a table of constants.
                let next = |last: &AVHWDeviceType| unsafe { av_hwdevice_iterate_types(*last) };
                std::iter::successors(Some(next(&NONE)), |last| Some(next(last)))
                    .take_while(|kind| *kind != NONE)
                    .collect()
            }
            Self::Device(name) => {
                let Ok(name) = CString::new(name.as_str()) else {
                    return Vec::new();
                };
                // SAFETY: a text that ends with a zero byte and outlives the call.
                let kind = unsafe { av_hwdevice_find_type_by_name(name.as_ptr()) };
                [kind].into_iter().filter(|kind| *kind != NONE).collect()
            }
        }
    }
}

/// An opened device. Kept until the process ends: all streams share it.
struct Device {
    kind: AVHWDeviceType,
    context: *mut AVBufferRef,
}

// SAFETY: reference counts of AVBufferRef are atomic, and the list is used under its lock only.
unsafe impl Send for Device {}

static DEVICES: Mutex<Vec<Device>> = Mutex::new(Vec::new());

/// Makes an unopened decoder use a device. The device's name, or `None` where there is none that
/// works: the decoder then decodes in software.
pub(crate) fn attach(
    context: &mut codec::Context,
    codec: &Codec,
    wanted: &Hwaccel,
) -> Option<String> {
    for kind in wanted.types() {
        // SAFETY: both pointers belong to live objects that are borrowed here.
        let (codec, context) = unsafe { (codec.as_ptr(), context.as_mut_ptr()) };
        if let Some(format) = pixel_format(codec, kind)
            && let Some(device) = device(kind)
        {
            // SAFETY: the decoder is not open yet, so nobody else reads these fields. It frees the
            // reference when it is freed itself. `opaque` is ours and holds a number, no address.
            unsafe {
                (*context).hw_device_ctx = device;
                (*context).opaque = format as c_int as usize as *mut c_void;
                (*context).get_format = Some(choose);
            }
            return Some(name(kind));
        }
    }
    None
}

/// A new reference to the device, opened at first use.
fn device(kind: AVHWDeviceType) -> Option<*mut AVBufferRef> {
    let mut devices = DEVICES.lock().unwrap_or_else(|broken| broken.into_inner());
    if !devices.iter().any(|device| device.kind == kind) {
        let mut context = ptr::null_mut();
        // SAFETY: `context` is written only on success; the other arguments may be null.
        let made = unsafe {
            av_hwdevice_ctx_create(&raw mut context, kind, ptr::null(), ptr::null_mut(), 0)
        };
        if made < 0 || context.is_null() {
            tracing::debug!(
                device = name(kind),
                "cannot be opened: {}",
                Error::from(made)
            );
            return None;
        }
        devices.push(Device { kind, context });
    }
    let device = devices.iter().find(|device| device.kind == kind)?;
    // SAFETY: a live reference of our own; the new one is the caller's.
    let reference = unsafe { av_buffer_ref(device.context) };
    (!reference.is_null()).then_some(reference)
}

/// The pixel format of a codec's frames on this kind of device, if it can decode it.
fn pixel_format(codec: *const AVCodec, kind: AVHWDeviceType) -> Option<AVPixelFormat> {
    (0..)
        .map_while(|index| {
            // SAFETY: `codec` points at one of FFmpeg's constants; past the last configuration the
            // function gives null, which `as_ref` makes `None`.
            unsafe { avcodec_get_hw_config(codec, index).as_ref() }
        })
        .find(|config| {
            config.device_type == kind
                && config.methods & AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX as c_int != 0
        })
        .map(|config| config.pix_fmt)
}

fn name(kind: AVHWDeviceType) -> String {
    // SAFETY: gives null or a constant text.
    unsafe {
        let text = av_hwdevice_get_type_name(kind);
        if text.is_null() {
            return "unknown".into();
        }
        CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}

/// FFmpeg asks which of these formats to decode to: the device's where it is offered, else what
/// FFmpeg itself would take, which is software for streams that the device cannot decode.
unsafe extern "C" fn choose(
    context: *mut AVCodecContext,
    formats: *const AVPixelFormat,
) -> AVPixelFormat {
    // SAFETY: FFmpeg calls this with a live context, whose `opaque` is the number set in `attach`,
    // and a list that ends with AV_PIX_FMT_NONE (-1). It is read as numbers, since a newer FFmpeg
    // may list formats that the enum lacks.
    unsafe {
        let wanted = (*context).opaque as usize as c_int;
        let numbers = formats.cast::<c_int>();
        let mut at = 0;
        while *numbers.add(at) != -1 {
            if *numbers.add(at) == wanted {
                return *formats.add(at);
            }
            at += 1;
        }
        avcodec_default_get_format(context, formats)
    }
}

/// The frame in main memory, wherever it was decoded.
pub(crate) fn to_memory(frame: Video) -> Result<Video, Error> {
    // SAFETY: reads a field of a live frame.
    if unsafe { (*frame.as_ptr()).hw_frames_ctx.is_null() } {
        return Ok(frame);
    }
    let mut copy = Video::empty();
    // SAFETY: both frames are live and ours; the empty one gets buffers of the device's choice.
    let moved = unsafe {
        match av_hwframe_transfer_data(copy.as_mut_ptr(), frame.as_ptr(), 0) {
            0.. => av_frame_copy_props(copy.as_mut_ptr(), frame.as_ptr()),
            error => error,
        }
    };
    if moved < 0 {
        return Err(Error::from(moved));
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        assert_eq!(Hwaccel::parse(" none "), Hwaccel::None);
        assert_eq!(Hwaccel::parse("AUTO"), Hwaccel::Auto);
        assert_eq!(Hwaccel::parse("cuda"), Hwaccel::Device("cuda".into()));
        assert!(Hwaccel::parse("no-such\0thing").types().is_empty());
        assert!(Hwaccel::Device("no-such".into()).types().is_empty());
        assert_eq!(Hwaccel::Device("cuda".into()).types().len(), 1);
    }
}
