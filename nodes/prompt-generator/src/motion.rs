//! `motion`: what moves against the scene, also before a moving camera.
//!
//! A short history of small brightness images is kept. On a look each is brought into the present
//! camera position ([`CameraMotion`]), their median per pixel is the scene without what moves, and
//! what differs from it, cleaned and joined, is a blob. One prompt per blob: a point on it, and its
//! box. Where there is little, a few points of a grid are added, at other places on every look.

use std::collections::VecDeque;

use tracklens_schemas::BBox;
use tracklens_vision::components::{Blob, Components};
use tracklens_vision::luma::ReducedLuma;
use tracklens_vision::morphology::Morphology;

use crate::camera::{CameraMotion, Pyramid};
use crate::strategy::{Frame, Strategy};
use crate::{Candidate, Found, Grid, Proposal};

/// Name of the strategy.
const NAME: &str = "motion";
/// Earlier images that are compared, and the frames from one to the next.
const HISTORY: usize = 5;
const SPACING: u64 = 4;
/// Grey levels by which a pixel must leave the range of the scene around it.
const LEAST_CONTRAST: f32 = 14.0;
/// Mean contrast in grey levels at which a blob is certain.
const CERTAIN_CONTRAST: f32 = 60.0;
/// Radii in working pixels: specks removed, gaps closed.
const OPEN_RADIUS: (usize, usize) = (1, 1);
const CLOSE_RADIUS: (usize, usize) = (3, 3);
/// Least area of a blob in square pixels of a frame 720 pixels high.
const LEAST_AREA: f32 = 100.0;
/// Edges of the scene along a blob's outline that make it a ghost, in edges of the frame.
const GHOST_RATIO: f32 = 1.5;
/// More of the frame than this does not move: the camera's motion was not understood.
const MOST_MOVING: f32 = 0.5;
/// Least number of prompts on a look, topped up from a grid of so many points per side.
const LEAST: usize = 4;
const TOP_UP_DENSITY: usize = 4;

/// The moving things of one stream.
#[derive(Debug)]
pub struct Motion {
    density: usize,
    seen: u64,
    looks: usize,
    luma: ReducedLuma,
    history: VecDeque<Pyramid>,
    morphology: Morphology,
    components: Components,
}

impl Motion {
    /// `density`: points per side of the full grid, half of which are shown in a first frame.
    #[must_use]
    pub fn new(density: usize) -> Self {
        Self {
            density,
            seen: 0,
            looks: 0,
            luma: ReducedLuma::default(),
            history: VecDeque::new(),
            morphology: Morphology::default(),
            components: Components::default(),
        }
    }

    /// Takes note of a frame; on a look, what moves in it.
    pub fn find(&mut self, frame: &Frame<'_>) -> Option<Found> {
        if frame.fresh {
            self.history.clear();
            self.seen = 0;
        }
        let remember = self.seen.is_multiple_of(SPACING);
        self.seen += 1;
        if !(remember || frame.look) {
            return None;
        }
        self.luma.fill(&frame.image);
        let (width, height) = (self.luma.width, self.luma.height);
        let now = Pyramid::new(&self.luma.pixels, width, height);
        let same = |earlier: &Pyramid| {
            (earlier.finest().width, earlier.finest().height) == (width, height)
        };
        if !self.history.iter().all(same) {
            // Another processing resolution in the middle of a stream.
            self.history.clear();
        }
        let found = frame.look.then(|| self.look(frame, &now));
        if remember {
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(now);
        }
        found
    }

    fn look(&mut self, frame: &Frame<'_>, now: &Pyramid) -> Found {
        let size = frame.source_size();
        if self.history.is_empty() {
            return Found {
                candidates: Grid::new(self.density.div_ceil(2))
                    .thinned(frame)
                    .candidates(size),
                ..Found::default()
            };
        }
        self.looks += 1;
        let scene = scene(&self.history, now);
        let candidates = scene.map_or_else(Vec::new, |scene| self.blobs(&scene, now, frame));
        Found {
            candidates,
            reserve: spread(
                Grid::new(TOP_UP_DENSITY).thinned(frame).candidates(size),
                self.looks,
            ),
            least: LEAST,
            ..Found::default()
        }
    }

    fn blobs(&mut self, scene: &[f32], now: &Pyramid, frame: &Frame<'_>) -> Vec<Candidate> {
        let width = self.luma.width;
        let contrast = contrast(scene, now);
        let mut bitmap: Vec<u8> = contrast
            .iter()
            .map(|&contrast| u8::from(contrast > LEAST_CONTRAST))
            .collect();
        let moving: usize = bitmap.iter().map(|&bit| usize::from(bit)).sum();
        if moving as f32 > MOST_MOVING * bitmap.len() as f32 {
            return Vec::new();
        }
        self.morphology.open(&mut bitmap, width, OPEN_RADIUS);
        self.morphology.close(&mut bitmap, width, CLOSE_RADIUS);
        let info = &frame.image.info;
        let per_working_pixel = self.luma.height as f32 / 720.0;
        let least = (LEAST_AREA * per_working_pixel * per_working_pixel).ceil();
        let scale = (
            info.source_width as f32 / width as f32,
            info.source_height as f32 / self.luma.height as f32,
        );
        self.components
            .find(&bitmap, width, (least as usize).max(1))
            .iter()
            .filter(|blob| !is_ghost(blob, &bitmap, scene, now))
            .map(|blob| candidate(blob, &contrast, width, scale))
            .collect()
    }
}

impl Strategy for Motion {
    fn propose(&mut self, frame: &Frame<'_>) -> Proposal {
        let first = self.history.is_empty();
        let Some(mut found) = self.find(frame) else {
            return Proposal::Nothing;
        };
        if first {
            // Nothing has moved yet: the grid is what there is to fall back on.
            found.least = found.candidates.len();
            found.reserve = std::mem::take(&mut found.candidates);
        }
        Proposal::Found(found)
    }
}

/// The scene without what moves: per pixel the median of the earlier images, brought into the
/// present camera position; NaN where none shows it. `None` where none fits.
fn scene(history: &VecDeque<Pyramid>, now: &Pyramid) -> Option<Vec<f32>> {
    let aligned: Vec<(&Pyramid, CameraMotion)> = history
        .iter()
        .filter_map(|earlier| Some((earlier, CameraMotion::between(earlier, now)?)))
        .collect();
    if aligned.is_empty() {
        return None;
    }
    let (width, height) = (now.finest().width, now.finest().height);
    let mut scene = Vec::with_capacity(width * height);
    let mut values = [0.0_f32; HISTORY];
    for at in 0..width * height {
        let (x, y) = ((at % width) as f32, (at / width) as f32);
        let mut count = 0;
        for (earlier, motion) in &aligned {
            let (px, py) = motion.apply(x, y);
            if let Some(value) = earlier.finest().sample(px, py) {
                values[count] = value - motion.brightness;
                count += 1;
            }
        }
        let shown = &mut values[..count];
        shown.sort_unstable_by(f32::total_cmp);
        scene.push(shown.get(count / 2).copied().unwrap_or(f32::NAN));
    }
    Some(scene)
}

/// Grey levels by which each pixel leaves the range of the scene's nine pixels around it: edges that
/// are aligned a little wrongly do not count as motion.
fn contrast(scene: &[f32], now: &Pyramid) -> Vec<f32> {
    let now = now.finest();
    let (width, height) = (now.width, now.height);
    let extremes = |at: usize, step: usize, plane: &[f32], pick: fn(f32, f32) -> f32| {
        pick(pick(plane[at - step], plane[at]), plane[at + step])
    };
    let mut contrast = vec![0.0; scene.len()];
    let mut low = scene.to_vec();
    let mut high = scene.to_vec();
    for y in 0..height {
        for x in 1..width.saturating_sub(1) {
            let at = y * width + x;
            low[at] = extremes(at, 1, scene, f32::min);
            high[at] = extremes(at, 1, scene, f32::max);
        }
    }
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            let at = y * width + x;
            if scene[at].is_nan() {
                continue;
            }
            let below = extremes(at, width, &low, f32::min) - now.pixels[at];
            let above = now.pixels[at] - extremes(at, width, &high, f32::max);
            contrast[at] = below.max(above).max(0.0);
        }
    }
    contrast
}

/// Whether a blob is where something slow was most of the time and is no longer: its outline is then
/// an edge of the scene and none of the frame.
fn is_ghost(blob: &Blob, bitmap: &[u8], scene: &[f32], now: &Pyramid) -> bool {
    let (width, now) = (now.finest().width, &now.finest().pixels);
    let (mut frame_edges, mut scene_edges) = (0.0_f32, 0.0_f32);
    blob.outline(width, |inside, outside| {
        if bitmap.get(outside) == Some(&0) {
            let edge = |plane: &[f32]| (plane[inside] - plane[outside]).abs();
            let (in_frame, in_scene) = (edge(now), edge(scene));
            // NaN where the scene has not been seen.
            if in_scene.is_finite() {
                frame_edges += in_frame;
                scene_edges += in_scene;
            }
        }
    });
    scene_edges > GHOST_RATIO * frame_edges
}

/// The prompt of a blob: its centre of mass, moved to the nearest of its pixels, and its box.
fn candidate(blob: &Blob, contrast: &[f32], width: usize, scale: (f32, f32)) -> Candidate {
    let (mut x, mut y, mut sum) = (0.0_f32, 0.0_f32, 0.0_f32);
    for run in &blob.runs {
        let length = (run.x1 - run.x0) as f32;
        x += length * (run.x0 + run.x1 - 1) as f32 / 2.0;
        y += length * run.y as f32;
        sum += contrast[run.y * width + run.x0..run.y * width + run.x1]
            .iter()
            .sum::<f32>();
    }
    let area = blob.area as f32;
    let centre = (x / area, y / area);
    let (mut best, mut point) = (f32::INFINITY, centre);
    for run in &blob.runs {
        let nearest = centre.0.round().clamp(run.x0 as f32, (run.x1 - 1) as f32);
        let distance = (nearest - centre.0).hypot(run.y as f32 - centre.1);
        if distance < best {
            (best, point) = (distance, (nearest, run.y as f32));
        }
    }
    let bbox = BBox {
        x0: blob.columns.0 as f32,
        y0: blob.rows.0 as f32,
        x1: blob.columns.1 as f32,
        y1: blob.rows.1 as f32,
    };
    Candidate {
        point: [(point.0 + 0.5) * scale.0, (point.1 + 0.5) * scale.1],
        bbox: Some(bbox.scale(scale.0, scale.1)),
        score: 0.5 + 0.5 * (sum / area / CERTAIN_CONTRAST).min(1.0),
        strategy: NAME,
    }
}

/// Points of a grid in an order in which neighbours come late, beginning elsewhere each time.
pub(crate) fn spread(points: Vec<Candidate>, turn: usize) -> Vec<Candidate> {
    // Coprime with the 16 points of the grid: visits all of them.
    const STRIDE: usize = 5;
    (0..points.len())
        .map(|at| points[(at + turn * LEAST) * STRIDE % points.len()].clone())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::scene_sketch::{SIZE, Sketch};

    fn look(sketches: &[Sketch]) -> Found {
        let mut motion = Motion::new(16);
        let mut found = None;
        for (index, sketch) in sketches.iter().enumerate() {
            let last = index + 1 == sketches.len();
            found = sketch.show(index as u64, index == 0, last, |frame| motion.find(frame));
        }
        found.unwrap()
    }

    fn moving(camera: f32) -> Vec<Sketch> {
        (0..22)
            .map(|step| Sketch {
                camera: (camera * step as f32, camera / 2.0 * step as f32),
                square: Some((100.0 + 6.0 * step as f32, 120.0)),
                ..Sketch::default()
            })
            .collect()
    }

    fn assert_on_the_square_only(found: &Found, at: (f32, f32)) {
        assert_eq!(found.candidates.len(), 1, "{:?}", found.candidates);
        let Candidate { point, bbox, .. } = &found.candidates[0];
        let inside = |value: f32, low: f32| value >= low - 3.0 && value <= low + 43.0;
        assert!(
            inside(point[0], at.0) && inside(point[1], at.1),
            "{point:?}"
        );
        let square = BBox::new(at.0, at.1, at.0 + 40.0, at.1 + 40.0);
        assert!(bbox.unwrap().iou(&square) > 0.6, "{bbox:?}");
        assert_eq!(found.least, LEAST);
    }

    #[test]
    fn a_moving_square_before_a_still_camera_is_the_only_prompt() {
        assert_on_the_square_only(&look(&moving(0.0)), (226.0, 120.0));
    }

    #[test]
    fn a_moving_square_before_a_panning_camera_is_the_only_prompt() {
        assert_on_the_square_only(&look(&moving(3.0)), (226.0, 120.0));
        assert_on_the_square_only(&look(&moving(-4.5)), (226.0, 120.0));
    }

    #[test]
    fn a_pan_alone_and_a_blank_frame_show_nothing() {
        let pan: Vec<Sketch> = moving(5.0)
            .into_iter()
            .map(|sketch| Sketch {
                square: None,
                ..sketch
            })
            .collect();
        assert_eq!(look(&pan).candidates, []);
        let blank = vec![
            Sketch {
                blank: true,
                ..Sketch::default()
            };
            10
        ];
        let found = look(&blank);
        assert_eq!((found.candidates.len(), found.reserve.len()), (0, 16));
    }

    #[test]
    fn a_first_frame_has_a_sparse_grid() {
        assert_eq!(look(&[Sketch::default()]).candidates.len(), 64);
    }

    #[test]
    fn the_reserve_starts_elsewhere_every_time_and_has_every_point() {
        let points = Grid::new(TOP_UP_DENSITY).candidates((SIZE.0, SIZE.1));
        let (first, second) = (spread(points.clone(), 1), spread(points.clone(), 2));
        assert_ne!(first[..LEAST], second[..LEAST]);
        assert!(points.iter().all(|point| first.contains(point)));
    }

    #[test]
    fn the_point_of_a_ring_lies_on_it() {
        let mut bitmap = vec![1_u8; 81];
        (2..7).for_each(|y| bitmap[y * 9 + 2..y * 9 + 7].fill(0));
        let blobs = Components::default().find(&bitmap, 9, 1);
        let found = candidate(&blobs[0], &[20.0; 81], 9, (1.0, 1.0));
        let [x, y] = found.point.map(|value| value as usize);
        assert_eq!(bitmap[y * 9 + x], 1);
    }
}
