//! Everything that is fetched rather than streamed: the page itself, a track, a crop.

use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracklens_schemas::{Image, ImageInfo, PixelEncoding, StreamId, TrackId};
use tracklens_video::{JpegEncoder, Shrinker};

use super::server::Shared;

/// A file of the page, part of the binary.
pub(crate) struct Asset {
    pub(crate) path: &'static str,
    kind: &'static str,
    text: &'static str,
    /// Sent to those without the token, too: the login page needs it.
    pub(crate) open: bool,
}

const fn asset_of(path: &'static str, kind: &'static str, text: &'static str, open: bool) -> Asset {
    Asset {
        path,
        kind,
        text,
        open,
    }
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const LOGIN: &str = include_str!("../../page/login.html");

/// The files.
pub(crate) static ASSETS: [Asset; 9] = [
    asset_of("/", HTML, include_str!("../../page/index.html"), false),
    asset_of(
        "/page.css",
        "text/css; charset=utf-8",
        include_str!("../../page/page.css"),
        true,
    ),
    asset_of(
        "/login.js",
        SCRIPT,
        include_str!("../../page/login.js"),
        true,
    ),
    asset_of(
        "/icon.svg",
        "image/svg+xml",
        include_str!("../../page/icon.svg"),
        true,
    ),
    asset_of(
        "/page.js",
        SCRIPT,
        include_str!("../../page/page.js"),
        false,
    ),
    asset_of(
        "/masks.js",
        SCRIPT,
        include_str!("../../page/masks.js"),
        false,
    ),
    asset_of(
        "/tile.js",
        SCRIPT,
        include_str!("../../page/tile.js"),
        false,
    ),
    asset_of(
        "/timeline.js",
        SCRIPT,
        include_str!("../../page/timeline.js"),
        false,
    ),
    asset_of(
        "/details.js",
        SCRIPT,
        include_str!("../../page/details.js"),
        false,
    ),
];

pub(crate) fn asset(asset: &'static Asset) -> Response {
    ([(CONTENT_TYPE, asset.kind)], asset.text).into_response()
}

/// What those see who have not given the token.
pub(crate) fn login_page() -> Response {
    (StatusCode::UNAUTHORIZED, [(CONTENT_TYPE, HTML)], LOGIN).into_response()
}

/// All that is known of a track, as JSON.
pub(crate) async fn track(
    State(shared): State<Shared>,
    Path((stream, track)): Path<(String, u32)>,
) -> Response {
    let Ok(id) = stream.parse::<StreamId>() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let scene = shared.live.scene();
    let Some(line) = scene.board.track(&id, track) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let crops: Vec<_> = scene
        .album
        .of(&id, TrackId(track))
        .iter()
        .map(|kept| {
            json!({
                "url": format!("/crops/{id}/{track}/{}", kept.number),
                "epoch": kept.id.epoch, "frame": kept.id.frame,
                "width": kept.crop.width, "height": kept.crop.height,
                "sharpness": kept.crop.sharpness,
            })
        })
        .collect();
    let text = json!({"stream_id": id, "track": line, "crops": crops}).to_string();
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

/// A crop as JPEG, coded when somebody asks.
pub(crate) async fn crop(
    State(shared): State<Shared>,
    Path((stream, track, number)): Path<(String, u32, u64)>,
) -> Response {
    let Ok(id) = stream.parse::<StreamId>() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let crop = {
        let scene = shared.live.scene();
        let kept = scene.album.of(&id, TrackId(track)).iter();
        let mut kept = kept.filter(|kept| kept.number == number);
        kept.next().map(|kept| kept.crop.clone())
    };
    let Some(crop) = crop else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let info = ImageInfo::new(crop.width, crop.height, PixelEncoding::Rgb8);
    let jpeg = Image::new(info, &crop.pixels)
        .map_err(|error| error.to_string())
        .and_then(|image| {
            let still = Shrinker::default().still(&image, u32::MAX);
            let coded = still.and_then(|still| JpegEncoder::default().encode(&still));
            coded.map_err(|error| error.to_string())
        });
    match jpeg {
        // A crop never changes, but its number means another in another run.
        Ok(jpeg) => {
            let headers: [(HeaderName, &str); 2] = [
                (CONTENT_TYPE, "image/jpeg"),
                (CACHE_CONTROL, "private, max-age=60"),
            ];
            (headers, jpeg).into_response()
        }
        Err(error) => {
            tracing::warn!(stream_id = %id, error, "live page: no crop");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
