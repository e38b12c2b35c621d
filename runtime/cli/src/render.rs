//! `tracklens render`: tracks drawn on their video.

use std::collections::BTreeMap;
use std::io::Write;

use eyre::WrapErr;
use tracklens_schemas::jsonl::TrackRow;
use tracklens_schemas::{Image, ImageInfo, PixelEncoding, Track};
use tracklens_video::{Mp4Writer, Picture, Reader, ReaderOptions, draw_tracks};

use crate::args::RenderArguments;
use crate::tracks;

/// Frames a second of a video that does not tell.
const DEFAULT_FPS: f64 = 25.0;
/// Frames on the contact sheet.
const SHEET_FRAMES: usize = 12;

pub(crate) fn render(arguments: &RenderArguments, out: &mut dyn Write) -> eyre::Result<bool> {
    let by_frame = load(arguments)?;
    let mut reader = Reader::open(&arguments.video, ReaderOptions::default())?;
    let fps = reader.info().fps().unwrap_or(DEFAULT_FPS);
    let mut writer: Option<Mp4Writer> = None;
    let mut pixels = Vec::new();
    let mut frame = 0_u64;
    while let Some(picture) = reader.next()? {
        let info = yuv420p(&picture, &mut pixels)?;
        let rows = by_frame.get(&frame).map_or(&[][..], Vec::as_slice);
        let drawn = rows
            .iter()
            .map(TrackRow::track)
            .collect::<Result<Vec<Track>, _>>()
            .wrap_err_with(|| format!("frame {frame} in {}", arguments.tracks.display()))?;
        draw_tracks(&mut pixels, info.width, info.height, &drawn);
        let writing = match &mut writer {
            Some(writing) => writing,
            None => writer.insert(Mp4Writer::create(
                &arguments.out,
                info.width,
                info.height,
                fps,
            )?),
        };
        writing.write(&Image::new(info, &pixels)?, picture.pts_ns())?;
        frame += 1;
    }
    let Some(writer) = writer else {
        eyre::bail!(
            "{} has no frames",
            tracklens_video::redact(&arguments.video)
        );
    };
    writer.finish()?;
    writeln!(out, "{frame} frames in {}", arguments.out.display())?;
    if let Some(sheet) = &arguments.contact_sheet {
        let video = arguments.out.display().to_string();
        tracklens_video::contact_sheet(&video, sheet, SHEET_FRAMES)?;
        writeln!(out, "contact sheet: {}", sheet.display())?;
    }
    Ok(true)
}

/// The rows of one stream (its last epoch) by frame.
fn load(arguments: &RenderArguments) -> eyre::Result<BTreeMap<u64, Vec<TrackRow>>> {
    let mut stream = arguments.stream.clone();
    let mut epoch = 0;
    let mut by_frame: BTreeMap<u64, Vec<TrackRow>> = BTreeMap::new();
    for row in tracks::rows(&arguments.tracks)? {
        let row = row?;
        if *stream.get_or_insert_with(|| row.stream_id.clone()) != row.stream_id {
            continue;
        }
        if row.epoch > epoch {
            epoch = row.epoch;
            by_frame.clear();
        }
        by_frame.entry(row.frame).or_default().push(row);
    }
    eyre::ensure!(
        !by_frame.is_empty() || arguments.stream.is_none(),
        "{} has no rows of the stream {}",
        arguments.tracks.display(),
        stream.unwrap_or_default()
    );
    Ok(by_frame)
}

/// A picture's pixels as yuv420p.
fn yuv420p(picture: &Picture, pixels: &mut Vec<u8>) -> eyre::Result<ImageInfo> {
    let info = picture.info();
    let mut packed = vec![0; info.byte_len()];
    picture.write_to(&mut packed)?;
    if info.encoding == PixelEncoding::Nv12 {
        let luma = info.width as usize * info.height as usize;
        let (y, uv) = packed.split_at(luma);
        pixels.clear();
        pixels.extend_from_slice(y);
        pixels.extend(uv.iter().step_by(2));
        pixels.extend(uv.iter().skip(1).step_by(2));
    } else {
        *pixels = packed;
    }
    Ok(ImageInfo {
        encoding: PixelEncoding::Yuv420p,
        ..info
    })
}
