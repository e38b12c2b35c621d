//! A picture of a whole video: evenly spaced frames in a grid.

use std::path::Path;

use ffmpeg_next::format::Pixel;
use image::{ImageBuffer, Rgb, RgbImage, imageops};
use tracklens_schemas::{Image, ImageInfo, PixelEncoding};

use crate::label::{draw_text, text_size};
use crate::overlay::Canvas;
use crate::palette::Color;
use crate::picture::{pack, plane_sizes};
use crate::scaler::Scaler;
use crate::writer::{new_frame, unpack};
use crate::{Picture, Reader, ReaderOptions, VideoError};

/// Width of a frame in the grid, in pixels.
const TILE_WIDTH: u32 = 480;
const GAP: u32 = 4;

/// Writes a PNG with `count` evenly spaced frames of a video, each with its number. Gives the
/// number of frames shown, fewer where the video has fewer.
///
/// # Errors
/// Where the video cannot be read, or the PNG not written.
pub fn contact_sheet(video: &str, png: &Path, count: usize) -> Result<usize, VideoError> {
    let total = count_frames(video)?;
    let count = (count.max(1) as u64).min(total);
    let mut reader = Reader::open(video, ReaderOptions::default())?;
    let mut scaler = (Scaler::default(), Scaler::default());
    let mut tiles: Vec<RgbImage> = Vec::new();
    let mut number = 0;
    while let Some(picture) = reader.next()? {
        let shown = tiles.len() as u64;
        if shown < count && number == (2 * shown + 1) * total / (2 * count) {
            tiles.push(tile(&picture, number, &mut scaler)?);
        }
        number += 1;
    }
    let failed = |reason: String| VideoError::Write {
        path: png.display().to_string(),
        reason,
    };
    let Some(first) = tiles.first() else {
        return Err(failed(format!("{} has no frames", crate::redact(video))));
    };
    let columns = (tiles.len() as f64).sqrt().ceil() as u32;
    let rows = (tiles.len() as u32).div_ceil(columns);
    let (width, height) = (first.width() + GAP, first.height() + GAP);
    let mut sheet = ImageBuffer::from_pixel(
        columns * width - GAP,
        rows * height - GAP,
        Rgb([24, 24, 24]),
    );
    for (index, tile) in tiles.iter().enumerate() {
        let (column, row) = (index as u32 % columns, index as u32 / columns);
        imageops::replace(
            &mut sheet,
            tile,
            (column * width).into(),
            (row * height).into(),
        );
    }
    sheet
        .save_with_format(png, image::ImageFormat::Png)
        .map_err(|error| failed(error.to_string()))?;
    Ok(tiles.len())
}

/// Decodes once to count: what containers say is often an estimate.
fn count_frames(video: &str) -> Result<u64, VideoError> {
    let mut reader = Reader::open(video, ReaderOptions::default())?;
    let mut frames = 0;
    while reader.next()?.is_some() {
        frames += 1;
    }
    Ok(frames)
}

fn tile(
    picture: &Picture,
    number: u64,
    (shrink, color): &mut (Scaler, Scaler),
) -> Result<RgbImage, VideoError> {
    let ImageInfo { width, height, .. } = picture.info();
    let tile_height = (u64::from(TILE_WIDTH) * u64::from(height) / u64::from(width))
        .clamp(2, u64::from(4 * TILE_WIDTH)) as u32
        & !1;
    let small = shrink.convert(picture.frame(), Pixel::YUV420P, TILE_WIDTH, tile_height)?;
    let info = ImageInfo::new(TILE_WIDTH, tile_height, PixelEncoding::Yuv420p);
    let mut pixels = vec![0; info.byte_len()];
    pack(
        &small,
        &plane_sizes(info.encoding, TILE_WIDTH, tile_height),
        &mut pixels,
    );
    // At the bottom: an overlay's own caption is at the top.
    if let Some(mut canvas) = Canvas::new(&mut pixels, TILE_WIDTH, tile_height) {
        let text = format!("frame {number}");
        let top = i64::from(tile_height) - text_size(&text, 1).1;
        draw_text(&mut canvas, (0, top), &text, 1, (Color::BLACK, 160));
    }
    let mut drawn = new_frame(Pixel::YUV420P, TILE_WIDTH, tile_height)?;
    unpack(
        &Image {
            info,
            data: &pixels,
        },
        &mut drawn,
    );
    let rgb = color.convert(&drawn, Pixel::RGB24, TILE_WIDTH, tile_height)?;
    let mut tile = RgbImage::new(TILE_WIDTH, tile_height);
    pack(
        &rgb,
        &plane_sizes(PixelEncoding::Rgb8, TILE_WIDTH, tile_height),
        &mut tile,
    );
    Ok(tile)
}
