//! The loop's own decisions, with a model that is plain arithmetic: an object is what is as bright
//! as the place that was pointed at.
#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tracklens_sam2::model_folder::{Geometry, SelectionRules};
use tracklens_sam2::modules::{Decoded, Look, MaskBatch, MemoryBatch, PromptBatch};
use tracklens_sam2::{InferenceError, ModelConfig, Modules, ProposalRules};
use tracklens_sam2_tracker::{Late, Outcome, Tracker, TrackerSettings};
use tracklens_schemas::{
    Epoch, FrameId, FrameIndex, Image, ImageInfo, PixelEncoding, Prompt, TrackState, TracksStatus,
};

const SIDE: usize = 32;
/// Squares in a row of the picture.
const ROW: usize = SIDE / 4;
const CELLS: usize = SIDE * SIDE;

/// Bright places: a pointer is a brightness.
struct Brightness {
    /// Inferences that will fail.
    failures: Rc<Cell<u32>>,
    encoded: Rc<Cell<u32>>,
    /// Whether all candidates were asked for when it last looked for masks.
    all_candidates: Rc<Cell<bool>>,
    /// Numbers of a memory.
    memory: usize,
}

impl Brightness {
    fn mask(frame: &[f32], level: f32, out: &mut Decoded) {
        let logits = frame.iter().map(|cell| 2.0 - (cell - level).abs());
        let start = out.logits.len();
        out.logits.extend(logits);
        let seen = out.logits[start..].iter().any(|logit| *logit > 0.0);
        out.iou.push(0.9);
        out.pointers.push(level);
        out.object_score
            .push(if seen && level > 20.0 { 5.0 } else { -5.0 });
    }
}

impl Modules for Brightness {
    type Frame = Vec<f32>;
    type Conditioned = Vec<f32>;

    fn mask_prompt(&self) -> [usize; 2] {
        [SIDE, SIDE]
    }

    fn encode_image(&mut self, pixels: &[f32]) -> Result<Vec<f32>, InferenceError> {
        if self.failures.get() > 0 {
            self.failures.set(self.failures.get() - 1);
            return Err(InferenceError {
                module: "image_encoder",
                objects: 1,
                reason: "out of memory".into(),
            });
        }
        self.encoded.set(self.encoded.get() + 1);
        Ok(pixels[..CELLS].to_vec())
    }

    fn embedding<'a>(&self, frame: &'a Vec<f32>) -> Result<&'a [f32], InferenceError> {
        Ok(frame)
    }

    fn attend(&mut self, _: &Vec<f32>, batch: &MemoryBatch) -> Result<Vec<f32>, InferenceError> {
        // The conditioning frame's pointer comes first.
        Ok(batch.pointer.chunks(batch.pointers).map(|p| p[0]).collect())
    }

    fn decode(
        &mut self,
        frame: &Vec<f32>,
        look: Look<'_, Vec<f32>>,
        prompts: &PromptBatch,
        out: &mut Decoded,
    ) -> Result<(), InferenceError> {
        self.all_candidates.set(prompts.all_candidates);
        *out = Decoded::default();
        for object in 0..prompts.objects {
            let level = match look {
                Look::Conditioned(levels) => levels[object],
                _ if prompts.has_mask[object] > 0.0 => {
                    let cells = &prompts.masks[object * CELLS..][..CELLS];
                    let inside = frame.iter().zip(cells).filter(|(_, cell)| **cell > 0.0);
                    let (count, sum) =
                        inside.fold((0.0, 0.0), |(n, sum), (level, _)| (n + 1.0, sum + level));
                    sum / count
                }
                _ => {
                    let at = &prompts.coords[object * prompts.points * 2..];
                    frame[at[1] as usize * SIDE + at[0] as usize]
                }
            };
            Self::mask(frame, level, out);
        }
        Ok(())
    }

    fn remember(
        &mut self,
        _: &Vec<f32>,
        masks: &MaskBatch,
    ) -> Result<Vec<Arc<[f32]>>, InferenceError> {
        Ok(vec![vec![1.0; self.memory].into(); masks.objects])
    }
}

fn config() -> ModelConfig {
    let module = |name: &str| format!("[modules.{name}]\nfile = \"\"\nsha256 = \"\"\n");
    let modules: String = [
        "image_encoder",
        "memory_attention",
        "mask_decoder",
        "memory_encoder",
    ]
    .map(module)
    .concat();
    let text = format!(
        "[model]\nname = \"brightness\"\nfamily = \"nano\"\n\
         [input]\nwidth = {SIDE}\nheight = {SIDE}\nmean = [0, 0, 0]\n\
         std = [0.003921569, 0.003921569, 0.003921569]\n\
         [geometry]\nembedding = [1, 1, 1]\nhigh_res_0 = [1, 1, 1]\nhigh_res_1 = [1, 1, 1]\n\
         memory_channels = 1\nmask = [{SIDE}, {SIDE}]\ncandidates = 1\n\
         [memory]\nframes = 3\nconditioning_frames = 1\npointers = 4\n\
         [selection]\nmultimask_tracking = true\nmultimask_points = [0, 1]\n\
         stability_delta = 0.05\nstability_threshold = 0.9\n{modules}"
    );
    toml::from_str(&text).unwrap()
}

struct Stand {
    tracker: Tracker<Brightness>,
    failures: Rc<Cell<u32>>,
    encoded: Rc<Cell<u32>>,
    all_candidates: Rc<Cell<bool>>,
    frame: u64,
}

impl Stand {
    fn new(change: impl Fn(&mut TrackerSettings)) -> Self {
        Self::with(change, config())
    }

    fn with(change: impl Fn(&mut TrackerSettings), config: ModelConfig) -> Self {
        let mut settings = TrackerSettings {
            proposals: ProposalRules {
                min_area: 4,
                ..ProposalRules::default()
            },
            retries: 1,
            retry_delay: Duration::ZERO,
            ..TrackerSettings::default()
        };
        change(&mut settings);
        let (failures, encoded) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let all_candidates = Rc::new(Cell::new(true));
        let model = Brightness {
            failures: failures.clone(),
            encoded: encoded.clone(),
            all_candidates: all_candidates.clone(),
            memory: config.geometry.memory_len(),
        };
        Self {
            tracker: Tracker::new(model, config, settings),
            failures,
            encoded,
            all_candidates,
            frame: 0,
        }
    }

    fn id(frame: u64, epoch: u32) -> FrameId {
        FrameId {
            stream: "s".parse().unwrap(),
            epoch: Epoch(epoch),
            frame: FrameIndex(frame),
        }
    }

    /// A frame with 4×4 squares of these brightnesses, from the left; 0 is none.
    fn see(&mut self, squares: &[u8], prompts: &[Prompt]) -> Outcome {
        self.see_in(0, squares, prompts)
    }

    fn see_in(&mut self, epoch: u32, squares: &[u8], prompts: &[Prompt]) -> Outcome {
        let mut pixels = vec![0_u8; 3 * CELLS];
        for (at, level) in squares.iter().enumerate() {
            let (left, top) = (4 * (at % ROW), 4 + 4 * (at / ROW));
            for y in top..top + 4 {
                for x in left..left + 4 {
                    pixels[3 * (y * SIDE + x)..][..3].fill(*level);
                }
            }
        }
        let info = ImageInfo::new(SIDE as u32, SIDE as u32, PixelEncoding::Rgb8);
        let id = Self::id(self.frame, epoch);
        self.frame += 1;
        self.tracker
            .track(&id, &Image::new(info, &pixels).unwrap(), prompts)
    }
}

fn point(square: u32, strategy: &str) -> Prompt {
    Prompt {
        prompt_id: square,
        points: vec![[
            4.0 * (square as usize % ROW) as f32 + 1.5,
            4.0 * (square as usize / ROW) as f32 + 5.5,
        ]],
        labels: vec![1],
        bbox: None,
        mask: None,
        score: 1.0,
        strategy: strategy.into(),
    }
}

fn states(outcome: &Outcome) -> Vec<(u32, TrackState)> {
    outcome
        .tracks
        .iter()
        .map(|t| (t.track_id.0, t.state))
        .collect()
}

#[test]
fn objects_keep_their_ids_while_they_move_hide_and_come_back() {
    use TrackState::{New, Occluded, Tracked};
    let mut stand = Stand::new(|_| {});
    let prompts = [point(0, "grid"), point(2, "grid")];
    assert_eq!(
        states(&stand.see(&[100, 0, 200], &prompts)),
        [(1, New), (2, New)]
    );
    let moved = stand.see(&[0, 100, 200], &[]);
    assert_eq!(states(&moved), [(1, Tracked), (2, Tracked)]);
    assert_eq!(moved.tracks[0].bbox.to_array(), [4.0, 4.0, 8.0, 8.0]);
    assert_eq!(
        states(&stand.see(&[0, 0, 200], &[])),
        [(1, Occluded), (2, Tracked)]
    );
    assert_eq!(
        states(&stand.see(&[100, 0, 200], &[])),
        [(1, Tracked), (2, Tracked)]
    );
    assert_eq!(stand.encoded.get(), 4, "a frame is encoded once");
}

#[test]
fn other_candidates_are_asked_for_where_they_may_be_taken() {
    let asked = |branches: usize, first: bool| {
        let mut config = config();
        if first {
            config.selection.multimask_tracking = false;
            config.selection.multimask_points = [0, 0];
            config.selection.stability_threshold = 0.0;
        }
        let mut stand = Stand::with(|settings| settings.tree.branches = branches, config);
        stand.see(&[200], &[point(0, "grid")]);
        let prompted = stand.all_candidates.get();
        assert_eq!(stand.see(&[200], &[]).tracks.len(), 1);
        (prompted, stand.all_candidates.get())
    };
    assert_eq!(asked(1, true), (false, false));
    assert_eq!(asked(3, true), (false, true), "a memory tree takes any");
    assert_eq!(asked(1, false), (true, true));
}

#[test]
fn a_lost_object_is_forgotten_and_its_id_never_used_again() {
    let mut stand = Stand::new(|settings| settings.lost_frames = 10);
    stand.see(&[100], &[point(0, "grid")]);
    for _ in 0..10 {
        assert_eq!(stand.see(&[0], &[]).tracks.len(), 1);
    }
    assert!(stand.see(&[0], &[]).tracks.is_empty());
    assert_eq!(states(&stand.see(&[100], &[point(0, "grid")]))[0].0, 2);
    let reopened = stand.see_in(1, &[100], &[point(0, "grid")]);
    assert_eq!(states(&reopened), [(3, TrackState::New)]);
}

#[test]
fn what_is_followed_is_not_taken_twice_unless_asked_for() {
    let mut stand = Stand::new(|_| {});
    stand.see(&[100], &[point(0, "grid")]);
    assert_eq!(stand.see(&[100], &[point(0, "grid")]).tracks.len(), 1);
    assert_eq!(stand.see(&[100], &[point(0, "file")]).tracks.len(), 2);
    // The younger of the two goes after a while.
    stand.see(&[100], &[]);
    let after = stand.see(&[100], &[]);
    assert_eq!(states(&after), [(1, TrackState::Tracked)]);
}

#[test]
fn one_object_too_many_is_refused_and_counted_until_another_is_lost() {
    let mut stand = Stand::new(|settings| {
        settings.max_objects = 2;
        settings.lost_frames = 1000;
    });
    let prompts = [point(0, "grid"), point(1, "grid"), point(2, "grid")];
    let full = stand.see(&[100, 150, 200], &prompts);
    assert_eq!((full.tracks.len(), full.refused), (2, 1));
    for _ in 0..9 {
        stand.see(&[0, 150, 200], &[]);
    }
    let taken = stand.see(&[0, 150, 200], &[point(2, "grid")]);
    assert_eq!((taken.refused, states(&taken)[1].0), (0, 3));
}

#[test]
fn fifty_objects_are_held_and_the_next_one_waits_for_a_place() {
    let mut stand = Stand::new(|_| {});
    let mut squares: Vec<u8> = (0..51).map(|at| 30 + 4 * at).collect();
    let prompts: Vec<Prompt> = (0..51).map(|at| point(at, "grid")).collect();
    let full = stand.see(&squares, &prompts);
    assert_eq!((full.tracks.len(), full.refused), (50, 1));
    let again = stand.see(&squares, &[point(50, "grid")]);
    assert_eq!((again.tracks.len(), again.refused), (50, 1));
    squares[7] = 0;
    for _ in 0..9 {
        stand.see(&squares, &[]);
    }
    let taken = stand.see(&squares, &[point(50, "grid")]);
    assert_eq!((taken.tracks.len(), taken.refused), (50, 0));
    assert_eq!(taken.begun[0].0, 51);
}

#[test]
fn a_failure_is_tried_again_then_the_last_result_is_held() {
    let mut stand = Stand::new(|_| {});
    stand.failures.set(2);
    let none = stand.see(&[100], &[point(0, "grid")]);
    assert_eq!((none.status, none.tracks.len()), (TracksStatus::Failed, 0));
    stand.failures.set(1);
    let again = stand.see(&[100], &[point(0, "grid")]);
    assert_eq!((again.status, again.tracks.len()), (TracksStatus::Ok, 1));
    stand.failures.set(2);
    let held = stand.see(&[0, 100], &[]);
    assert_eq!(
        (held.status, &held.tracks),
        (TracksStatus::Held, &again.tracks)
    );
    assert!(held.error.unwrap().to_string().contains("out of memory"));
    assert_eq!(stand.see(&[0, 100], &[]).tracks[0].bbox.x0, 4.0);
}

#[test]
fn a_late_prompt_is_applied_on_its_frame_and_brought_forward() {
    let mut stand = Stand::new(|settings| settings.past_frames = 3);
    for squares in [[100, 0, 0], [0, 100, 0], [0, 0, 100]] {
        stand.see(&squares, &[]);
    }
    let encoded = stand.encoded.get();
    let late = stand
        .tracker
        .late(&Stand::id(0, 0), &[point(0, "grid")])
        .unwrap();
    assert!(
        matches!(late, Late::Begun { ref objects, .. } if objects.len() == 1),
        "{late:?}"
    );
    assert_eq!(stand.encoded.get(), encoded, "nothing is encoded twice");
    let now = stand.see(&[0, 100, 0], &[]);
    assert_eq!(states(&now), [(1, TrackState::New)]);
    assert_eq!((now.tracks[0].bbox.x0, now.tracks[0].age), (4.0, 4));
    let forgotten = stand
        .tracker
        .late(&Stand::id(0, 0), &[point(0, "grid")])
        .unwrap();
    assert_eq!(forgotten, Late::Forgotten);
}

#[test]
fn an_object_begun_late_is_followed_from_where_it_is_by_a_model_with_a_reach() {
    let mut stand = Stand::with(
        |settings| settings.past_frames = 3,
        ModelConfig {
            selection: SelectionRules {
                reach: Some(0.5),
                ..config().selection
            },
            ..config()
        },
    );
    for squares in [[0, 0, 0, 0, 100], [0, 0, 0, 0, 100]] {
        stand.see(&squares, &[]);
    }
    let late = stand.tracker.late(&Stand::id(0, 0), &[point(4, "grid")]);
    assert!(matches!(late, Ok(Late::Begun { .. })), "{late:?}");
    let now = stand.see(&[0, 0, 0, 0, 100], &[]);
    assert_eq!(states(&now), [(1, TrackState::New)]);
    // From then on it is held to its reach.
    let far = stand.see(&[100], &[]);
    assert_eq!(states(&far), [(1, TrackState::Occluded)]);
}

#[test]
fn useless_prompts_are_named_and_the_frame_is_tracked() {
    let mut stand = Stand::new(|_| {});
    let mut background = point(0, "grid");
    background.labels = vec![0];
    let outcome = stand.see(&[100], &[background, point(0, "grid")]);
    assert_eq!((outcome.bad_prompts.len(), outcome.tracks.len()), (1, 1));
}

#[test]
fn another_model_goes_on_with_the_objects_in_sight_under_their_ids() {
    use TrackState::{New, Occluded, Tracked};
    let mut stand = Stand::new(|_| {});
    let prompts = [point(0, "grid"), point(2, "grid")];
    let begun = stand.see(&[100, 0, 200], &prompts);
    assert_eq!(states(&begun), [(1, New), (2, New)]);
    let hidden = stand.see(&[100], &[]);
    assert_eq!(states(&hidden), [(1, Tracked), (2, Occluded)]);

    let model = Brightness {
        failures: stand.failures.clone(),
        encoded: stand.encoded.clone(),
        all_candidates: stand.all_candidates.clone(),
        memory: config().geometry.memory_len(),
    };
    stand.tracker.switch(model, config());
    assert_eq!(states(&stand.see(&[100], &[])), [(1, Tracked)]);
    // It is followed by what the new model remembers, and the id of the other one is gone for good.
    let moved = stand.see(&[0, 100, 200], &[point(2, "grid")]);
    assert_eq!(states(&moved), [(1, Tracked), (3, New)]);
    assert_eq!(moved.tracks[0].bbox.x0, 4.0);
}

/// A model that makes out what objects look like: brighter or darker than the mean of the scene.
fn with_looks(change: impl Fn(&mut TrackerSettings)) -> Stand {
    let looks = ModelConfig {
        selection: SelectionRules {
            similarity: Some(0.75),
            ..config().selection
        },
        geometry: Geometry {
            embedding: [1, SIDE, SIDE],
            ..config().geometry
        },
        ..config()
    };
    Stand::with(change, looks)
}

/// One square in a bright scene, in which it is darker than the mean.
fn dark_among_bright(level: u8) -> Vec<u8> {
    let mut squares = vec![250; 40];
    squares[0] = level;
    squares
}

#[test]
fn a_forgotten_object_that_is_found_again_gets_its_id_back() {
    let mut stand = with_looks(|settings| {
        settings.lost_frames = 2;
        settings.return_frames = 20;
    });
    stand.see(&[100], &[point(0, "grid")]);
    for _ in 0..4 {
        stand.see(&[0], &[]);
    }
    assert!(stand.see(&[0], &[]).tracks.is_empty());
    let back = stand.see(&[0, 140], &[point(1, "grid")]);
    assert_eq!(states(&back), [(1, TrackState::New)]);
    assert_eq!((back.returned.len(), back.begun.len()), (1, 0));
    for _ in 0..22 {
        stand.see(&[0], &[]);
    }
    let too_late = stand.see(&[0, 140], &[point(1, "grid")]);
    assert_eq!(states(&too_late), [(2, TrackState::New)]);
}

#[test]
fn an_object_that_looks_otherwise_or_is_elsewhere_is_another() {
    let mut stand = with_looks(|settings| settings.lost_frames = 2);
    stand.see(&[100], &[point(0, "grid")]);
    for _ in 0..4 {
        stand.see(&[0], &[]);
    }
    let darker = stand.see(&dark_among_bright(60), &[point(0, "grid")]);
    assert_eq!(states(&darker), [(2, TrackState::New)]);
    let mut far = vec![0; 56];
    far[55] = 100;
    assert_eq!(states(&stand.see(&far, &[point(55, "grid")]))[1].0, 3);
}

#[test]
fn an_object_out_of_sight_that_is_found_again_goes_on() {
    let mut stand = with_looks(|_| {});
    stand.see(&[100, 200], &[point(0, "grid"), point(1, "grid")]);
    stand.see(&[0, 200], &[]);
    let back = stand.see(&[140, 200], &[point(0, "grid")]);
    let expected = [(1, TrackState::Tracked), (2, TrackState::Tracked)];
    assert_eq!(states(&back), expected);
    assert_eq!(back.returned.len(), 1);
}

#[test]
fn a_late_prompt_finds_an_object_again_too() {
    let mut stand = with_looks(|settings| settings.past_frames = 3);
    stand.see(&[100], &[point(0, "grid")]);
    stand.see(&[0, 140], &[]);
    stand.see(&[0, 140], &[]);
    let late = stand.tracker.late(&Stand::id(1, 0), &[point(1, "grid")]);
    assert!(
        matches!(late, Ok(Late::Begun { ref returned, .. }) if returned.len() == 1),
        "{late:?}"
    );
    let now = stand.see(&[0, 140], &[]);
    assert_eq!(states(&now), [(1, TrackState::Tracked)]);
    assert_eq!(now.tracks[0].bbox.x0, 4.0);
}

#[test]
fn in_a_new_scene_only_what_looks_like_an_object_is_it() {
    let stream = "s".parse().unwrap();
    for (cut, expected) in [(false, TrackState::Tracked), (true, TrackState::Occluded)] {
        let mut stand = with_looks(|_| {});
        stand.see(&[100], &[point(0, "grid")]);
        if cut {
            stand.tracker.begin_scene(&stream);
        }
        let elsewhere = stand.see(&dark_among_bright(100), &[]);
        assert_eq!(states(&elsewhere), [(1, expected)]);
        // Back where it is itself.
        assert_eq!(
            states(&stand.see(&[0, 100], &[])),
            [(1, TrackState::Tracked)]
        );
    }
}
