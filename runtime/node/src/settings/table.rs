//! The table of all settings: name, what is accepted, default, who reads it, meaning.

use super::{Kind, Origin, Profile};

/// The default of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// No default: the value is null unless the variable is set.
    None,
    /// One default.
    All(&'static str),
    /// One default per profile: performance, balanced, quality.
    PerProfile([&'static str; 3]),
}

impl Default {
    pub(crate) fn text(self, profile: Profile) -> (Option<String>, Origin) {
        match self {
            Self::None => (None, Origin::Default),
            Self::All(text) => (Some(text.into()), Origin::Default),
            Self::PerProfile([performance, balanced, quality]) => {
                let text = match profile {
                    Profile::Performance => performance,
                    Profile::Balanced => balanced,
                    Profile::Quality => quality,
                };
                (Some(text.into()), Origin::Profile(profile))
            }
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// What is accepted.
    pub kind: Kind,
    /// Its default.
    pub default: Default,
    /// The nodes that read it; empty: every node.
    pub nodes: &'static [&'static str],
    /// One line on what it does.
    pub about: &'static str,
}

/// The row named `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.name == name)
}

const fn row(
    name: &'static str,
    kind: Kind,
    default: Default,
    nodes: &'static [&'static str],
    about: &'static str,
) -> Setting {
    Setting {
        name,
        kind,
        default,
        nodes,
        about,
    }
}

const fn at_least(min: i64) -> Kind {
    Kind::Integer { min, max: i64::MAX }
}

const fn number(min: f64, max: f64) -> Kind {
    Kind::Number {
        min,
        max,
        usual: (min, max),
    }
}

use self::Default::{All, None as Unset, PerProfile};

const BUFFER: &[&str] = &["buffer"];
const DECODER: &[&str] = &["decoder"];
const INGEST: &[&str] = &["ingest"];
const IOU_TRACKER: &[&str] = &["iou-tracker"];
const LENS_BATCHER: &[&str] = &["lens-batcher"];
const PROMPT_GENERATOR: &[&str] = &["prompt-generator"];
const PUBLISHER: &[&str] = &["publisher"];
const RETRIES: &[&str] = &["lens-batcher", "sam2-tracker"];
const SAM2_TRACKER: &[&str] = &["sam2-tracker"];
const TRACKERS: &[&str] = &["iou-tracker", "sam2-tracker"];

/// Every setting of every node.
pub static TABLE: &[Setting] = &[
    // Every node.
    row(
        "FLOW_MODE",
        Kind::OneOf(&["lossless", "live"]),
        All("lossless"),
        &[],
        "lossless: every frame once, in order; live: the newest frame wins, drops happen in the buffer",
    ),
    row(
        "FLOW_WINDOW",
        Kind::Integer { min: 1, max: 1024 },
        All("32"),
        &[],
        "frames on their way to a consumer before the sender waits; no more than the queue_size of the edge, or 100 MiB",
    ),
    row(
        "METRICS_ENABLED",
        Kind::Bool,
        All("true"),
        &[],
        "serve Prometheus metrics on 127.0.0.1",
    ),
    row(
        "METRICS_PORT",
        Kind::Integer {
            min: 1,
            max: 65_000,
        },
        All("9090"),
        &[],
        "first metrics port; each node adds its own offset (docs/operations.md)",
    ),
    row(
        "STREAM_STALE_TIMEOUT_SECONDS",
        number(0.1, 86_400.0),
        All("30"),
        &[],
        "a stream without frames for this long is stale",
    ),
    row(
        "STREAM_CLEANUP_TIMEOUT_SECONDS",
        number(0.1, 604_800.0),
        All("120"),
        &[],
        "a stale stream is closed after this long without frames (live)",
    ),
    row(
        "SHARD",
        Kind::Shard,
        Unset,
        &[],
        "the part of all streams that this instance takes, of several in one graph: 0/2 and 1/2 (graphs/scaled.yml)",
    ),
    row(
        "TRIAL_DELAY_MS",
        Kind::Integer {
            min: 0,
            max: 60_000,
        },
        All("0"),
        &[],
        "for trials: the node is slower by so many milliseconds a frame",
    ),
    row(
        "TRIAL_DELAY_SECONDS",
        number(0.0, 86_400.0),
        All("0"),
        &[],
        "for trials: the delay ends so long after the node's start; 0: never",
    ),
    // Frames.
    row(
        "ADAPTIVE_QUALITY",
        Kind::Bool,
        All("true"),
        BUFFER,
        "spend less on each frame, step by step, while the tracker cannot keep up (live)",
    ),
    row(
        "TARGET_FPS",
        Kind::Number {
            min: 0.1,
            max: 240.0,
            usual: (5.0, 30.0),
        },
        PerProfile(["25", "15", "10"]),
        BUFFER,
        "frames per second and stream passed on to the tracker in live mode",
    ),
    row(
        "PROCESSING_RESOLUTION",
        Kind::Snap(&[480, 720, 1080, 1440, 2160]),
        PerProfile(["480", "720", "1080"]),
        BUFFER,
        "height in pixels of the frames that trackers see; smaller sources are not enlarged",
    ),
    row(
        "VIDEO_BUFFER_SIZE",
        Kind::Integer { min: 2, max: 3000 },
        All("30"),
        BUFFER,
        "frames of each stream kept at source resolution",
    ),
    row(
        "CROP_PADDING",
        number(0.0, 1.0),
        All("0.1"),
        BUFFER,
        "border around a cropped object, as a fraction of its box",
    ),
    row(
        "CROP_MAX_SIDE",
        Kind::Integer { min: 16, max: 4096 },
        All("512"),
        BUFFER,
        "longest side in pixels of a crop",
    ),
    row(
        "CROP_INTERVAL_FRAMES",
        at_least(1),
        All("15"),
        BUFFER,
        "frames between two crops of the same object",
    ),
    // Prompts.
    row(
        "SAM2_PROMPT_STRATEGY",
        Kind::OneOf(&["grid", "motion", "saliency", "hybrid", "file", "detector"]),
        All("grid"),
        PROMPT_GENERATOR,
        "where to look for objects: on a grid, where something moves or stands out, all of these, by PROMPT_FILE, or where the input detections has boxes",
    ),
    row(
        "GRID_PROMPT_DENSITY",
        Kind::Integer { min: 1, max: 128 },
        PerProfile(["8", "16", "24"]),
        PROMPT_GENERATOR,
        "points per side of the grid; half of it (not under 8) above 1920x1080",
    ),
    row(
        "REPROMPT_INTERVAL",
        at_least(1),
        PerProfile(["120", "60", "30"]),
        PROMPT_GENERATOR,
        "frames from one look for objects to the next",
    ),
    row(
        "PROMPT_GRID_FILL",
        Kind::Bool,
        All("true"),
        PROMPT_GENERATOR,
        "motion, saliency: look at a sparse grid too where few places are found",
    ),
    row(
        "MAX_PROMPTS_PER_FRAME",
        Kind::Integer {
            min: 1,
            max: 16_384,
        },
        PerProfile(["64", "256", "576"]),
        PROMPT_GENERATOR,
        "most prompts on a frame; those of PROMPT_FILE are not limited",
    ),
    row(
        "PROMPT_FILE",
        Kind::Path,
        Unset,
        PROMPT_GENERATOR,
        "JSON or YAML list of prompts for SAM2_PROMPT_STRATEGY=file",
    ),
    row(
        "PROMPT_PLUGIN",
        Kind::Path,
        Unset,
        PROMPT_GENERATOR,
        "a plug-in that says where to look, in the place of SAM2_PROMPT_STRATEGY (docs/plugins.md)",
    ),
    row(
        "PROMPT_PLUGIN_CONFIG",
        Kind::Text,
        All("{}"),
        PROMPT_GENERATOR,
        "JSON text for the plug-in",
    ),
    // Tracking.
    row(
        "MIN_OBJECT_AREA",
        at_least(1),
        PerProfile(["2000", "1000", "500"]),
        TRACKERS,
        "pixels of the source frame that an object must have to be taken up",
    ),
    row(
        "SAM2_MAX_OBJECTS_PER_STREAM",
        Kind::Integer {
            min: 1,
            max: 10_000,
        },
        All("50"),
        TRACKERS,
        "most objects followed at once in a stream",
    ),
    row(
        "DETECTOR",
        Kind::OneOf(&["motion", "yolox", "sam2"]),
        All("motion"),
        IOU_TRACKER,
        "motion: what moves before a fixed camera, no model; yolox: an ONNX model; sam2: SAM 2 without memory, at prompts on every frame",
    ),
    row(
        "DETECTOR_MODEL",
        Kind::Path,
        Unset,
        IOU_TRACKER,
        "YOLOX .onnx file; unset: yolox-nano/yolox_nano.onnx in TRACKLENS_MODELS",
    ),
    row(
        "DETECTOR_CLASSES",
        Kind::Words(&[]),
        Unset,
        IOU_TRACKER,
        "COCO names or numbers of the classes to follow, e.g. person,car; unset: all",
    ),
    row(
        "DETECTOR_SCORE_THRESHOLD",
        number(0.01, 0.99),
        All("0.3"),
        IOU_TRACKER,
        "score from which a detection may begin a track; known objects are followed down to 0.4 of it",
    ),
    row(
        "DETECTOR_THREADS",
        Kind::Integer { min: 0, max: 64 },
        All("0"),
        IOU_TRACKER,
        "threads of one inference; 0 lets ONNX Runtime choose",
    ),
    row(
        "TRACK_MIN_IOU",
        number(0.01, 0.99),
        All("0.2"),
        IOU_TRACKER,
        "overlap of a predicted box with a detection below which they are different objects",
    ),
    row(
        "TRACK_CONFIRM_FRAMES",
        Kind::Integer { min: 1, max: 1000 },
        All("3"),
        IOU_TRACKER,
        "frames in a row in which an object must be seen before it is published",
    ),
    row(
        "MEMORY_TREE_BRANCHES",
        Kind::Integer { min: 1, max: 8 },
        All("1"),
        SAM2_TRACKER,
        "hypotheses of where an object is; 1: no memory tree",
    ),
    row(
        "MEMORY_TREE_CONSISTENCY_THRESHOLD",
        number(0.0, 1.0),
        All("0.5"),
        SAM2_TRACKER,
        "overlap (IoU) from which two hypotheses are the same",
    ),
    row(
        "TRACK_LOST_FRAMES",
        Kind::Integer {
            min: 1,
            max: 100_000,
        },
        All("25"),
        TRACKERS,
        "frames without sight after which an object is forgotten",
    ),
    row(
        "TRACK_RETURN_FRAMES",
        Kind::Integer {
            min: 0,
            max: 100_000,
        },
        All("250"),
        SAM2_TRACKER,
        "frames after which a forgotten object that is found again gets no old id any more; 0: never one",
    ),
    row(
        "TRACKLENS_MODELS",
        Kind::Path,
        Unset,
        TRACKERS,
        "folder of models",
    ),
    row(
        "ORT_DYLIB_PATH",
        Kind::Path,
        Unset,
        TRACKERS,
        "the ONNX Runtime library, libonnxruntime.so",
    ),
    // SAM 2.
    row(
        "SAM2_MODEL_SIZE",
        Kind::Text,
        Unset,
        TRACKERS,
        "name of the model (nano, tiny, small, base, large, or any folder with a model.toml); unset: the profile's (tiny, small, base) where installed, else nano",
    ),
    row(
        "ENABLE_DYNAMIC_MODEL_SWITCHING",
        Kind::Bool,
        All("true"),
        SAM2_TRACKER,
        "go on with the next smaller installed model when memory gets short",
    ),
    row(
        "MODEL_SWITCH_THRESHOLD_MB",
        Kind::Integer {
            min: 0,
            max: 1_000_000,
        },
        All("3000"),
        SAM2_TRACKER,
        "free memory in MiB under which that happens",
    ),
    row(
        "SAM2_MODEL_DIR",
        Kind::Path,
        Unset,
        TRACKERS,
        "folder that holds the models' folders; looked into before the project's own and TRACKLENS_MODELS",
    ),
    row(
        "SAM2_DEVICE",
        Kind::OneOf(&["cpu", "cuda", "auto"]),
        All("auto"),
        TRACKERS,
        "what the model runs on; auto: a CUDA GPU where library and machine have one",
    ),
    row(
        "SAM2_THREADS",
        Kind::Integer { min: 0, max: 64 },
        All("0"),
        TRACKERS,
        "threads of one inference; 0 lets ONNX Runtime choose",
    ),
    row(
        "SAM2_MAX_BATCH",
        Kind::Integer { min: 0, max: 1024 },
        All("0"),
        TRACKERS,
        "objects in one call of a module; 0: as many as fit in half a gigabyte of attention",
    ),
    row(
        "SAM2_PAST_FRAMES",
        Kind::Integer { min: 0, max: 256 },
        All("8"),
        SAM2_TRACKER,
        "live: frames whose features are kept for prompts that come late",
    ),
    row(
        "PROMPT_MIN_IOU",
        number(0.0, 1.0),
        All("0.5"),
        TRACKERS,
        "predicted IoU that a proposed mask must have to become an object",
    ),
    row(
        "PROMPT_MIN_STABILITY",
        number(0.0, 1.0),
        All("0.6"),
        TRACKERS,
        "stability that a proposed mask must have to become an object",
    ),
    row(
        "PROMPT_MAX_OVERLAP",
        number(0.0, 1.0),
        All("0.5"),
        TRACKERS,
        "share of a proposed mask (or of the object) that may lie on an object followed already",
    ),
    row(
        "TRACK_DUPLICATE_IOU",
        number(0.1, 2.0),
        All("0.8"),
        SAM2_TRACKER,
        "overlap from which two objects are the same, and the younger is let go; above 1: never",
    ),
    row(
        "MASK_CLEAN_CELLS",
        Kind::Integer { min: 0, max: 4096 },
        All("8"),
        TRACKERS,
        "largest hole filled and speck removed, in cells of a 256x256 mask",
    ),
    row(
        "MAX_RETRY_ATTEMPTS",
        Kind::Integer { min: 0, max: 100 },
        All("2"),
        RETRIES,
        "further attempts after a failed inference (then the last good result is held) or call (then the question has failed)",
    ),
    row(
        "RETRY_DELAY_MS",
        Kind::Integer {
            min: 0,
            max: 60_000,
        },
        All("100"),
        RETRIES,
        "pause before a further attempt; lens-batcher doubles it each time",
    ),
    row(
        "SNAPSHOT_DIR",
        Kind::Path,
        Unset,
        SAM2_TRACKER,
        "folder in which the state of all streams is kept; unset: in the system's temporary folder, for this run",
    ),
    row(
        "SNAPSHOT_INTERVAL_SECONDS",
        number(0.1, 86_400.0),
        All("5"),
        SAM2_TRACKER,
        "time between two snapshots",
    ),
    // Identification.
    row(
        "PROCESS_AFTER_SECONDS",
        number(0.0, 3600.0),
        All("1.5"),
        LENS_BATCHER,
        "time that an object must have been there before it is asked about",
    ),
    row(
        "REPROCESS_INTERVAL_MS",
        at_least(0),
        All("3000"),
        LENS_BATCHER,
        "least time between two questions about the same object",
    ),
    row(
        "LENS_BACKEND",
        Kind::OneOf(&["gallery", "vision", "serpapi", "http", "plugin"]),
        All("gallery"),
        LENS_BATCHER,
        "who is asked: a folder of pictures, Google Cloud Vision, Google Lens through SerpApi, any JSON service, a plug-in; keys are read from LENS_API_KEY",
    ),
    row(
        "LENS_GALLERY",
        Kind::Path,
        All("gallery"),
        LENS_BATCHER,
        "gallery: folder with NAME/*.jpg or *.png",
    ),
    row(
        "LENS_GALLERY_THRESHOLD",
        number(0.0, 1.0),
        All("0.75"),
        LENS_BATCHER,
        "gallery: similarity from which a picture has the name of its nearest",
    ),
    row(
        "LENS_URL",
        Kind::Text,
        Unset,
        LENS_BATCHER,
        "address of the service, in the place of its own",
    ),
    row(
        "LENS_HTTP_SERVICE",
        Kind::Path,
        Unset,
        LENS_BATCHER,
        "http: YAML or JSON file that describes the service (docs/nodes.md)",
    ),
    row(
        "LENS_PLUGIN",
        Kind::Path,
        Unset,
        LENS_BATCHER,
        "plugin: the shared library (docs/plugins.md)",
    ),
    row(
        "LENS_PLUGIN_CONFIG",
        Kind::Text,
        All("{}"),
        LENS_BATCHER,
        "plugin: JSON text for it",
    ),
    row(
        "LENS_IMAGE_SERVER",
        Kind::Text,
        All("127.0.0.1:8099"),
        LENS_BATCHER,
        "serpapi: address on which pictures are served while they are asked about",
    ),
    row(
        "LENS_IMAGE_URL",
        Kind::Text,
        Unset,
        LENS_BATCHER,
        "serpapi: that address as the service sees it; with LENS_IMAGE_PUT_URL: where the store gives pictures out, with {name} in it",
    ),
    row(
        "LENS_IMAGE_PUT_URL",
        Kind::Text,
        Unset,
        LENS_BATCHER,
        "serpapi: a store that takes pictures by PUT, with {name} in it, in the place of the own server",
    ),
    row(
        "LENS_BATCH_SIZE",
        Kind::Integer { min: 1, max: 1000 },
        PerProfile(["20", "10", "5"]),
        LENS_BATCHER,
        "pictures in a call, at most what the service takes",
    ),
    row(
        "LENS_BATCH_WAIT_MS",
        Kind::Integer {
            min: 0,
            max: 600_000,
        },
        PerProfile(["1000", "500", "250"]),
        LENS_BATCHER,
        "longest that a picture waits for others",
    ),
    row(
        "LENS_API_RATE_LIMIT",
        Kind::Integer {
            min: 1,
            max: 10_000,
        },
        All("10"),
        LENS_BATCHER,
        "most calls in any second",
    ),
    row(
        "LENS_CALLS_AT_ONCE",
        Kind::Integer { min: 1, max: 64 },
        All("4"),
        LENS_BATCHER,
        "most calls without an answer",
    ),
    row(
        "LENS_TIMEOUT_MS",
        Kind::Integer {
            min: 1,
            max: 600_000,
        },
        All("10000"),
        LENS_BATCHER,
        "longest that a call may take",
    ),
    row(
        "LENS_QUEUE_SIZE",
        Kind::Integer {
            min: 1,
            max: 100_000,
        },
        All("1000"),
        LENS_BATCHER,
        "most pictures that wait; the oldest is dropped",
    ),
    row(
        "LENS_DRAIN_SECONDS",
        number(0.0, 3600.0),
        All("10"),
        LENS_BATCHER,
        "how long the end of a stream, and of the node, waits for answers",
    ),
    row(
        "LENS_CACHE_SIZE",
        Kind::Integer {
            min: 0,
            max: 1_000_000,
        },
        All("1000"),
        LENS_BATCHER,
        "answers remembered; 0: none",
    ),
    row(
        "LENS_CACHE_SIMILARITY_THRESHOLD",
        number(0.0, 1.0),
        All("0.95"),
        LENS_BATCHER,
        "similarity of perceptual hashes from which two pictures are the same",
    ),
    row(
        "LENS_CACHE_DIR",
        Kind::Path,
        Unset,
        LENS_BATCHER,
        "folder in which answers are kept for the next start; unset: not kept",
    ),
    row(
        "LENS_ENABLE_SIMILAR_DEDUP",
        Kind::Bool,
        All("true"),
        LENS_BATCHER,
        "a picture that looks like one that is being asked about waits for its answer",
    ),
    row(
        "LENS_KEEP_DIR",
        Kind::Path,
        Unset,
        LENS_BATCHER,
        "folder into which every picture asked about is written: for looking at, and for making galleries",
    ),
    row(
        "ENHANCEMENT_ENABLED",
        Kind::Bool,
        All("true"),
        LENS_BATCHER,
        "make pictures easier to recognise before they are sent",
    ),
    row(
        "LENS_ENHANCERS",
        Kind::Words(&[
            "dim",
            "denoise",
            "white_balance",
            "contrast",
            "upscale",
            "sharpen",
        ]),
        All("dim,denoise,white_balance,contrast,upscale,sharpen"),
        LENS_BATCHER,
        "the steps of it, in this order",
    ),
    row(
        "LENS_ENHANCER_PLUGIN",
        Kind::Path,
        Unset,
        LENS_BATCHER,
        "a plug-in behind these steps (docs/plugins.md)",
    ),
    row(
        "LENS_ENHANCER_PLUGIN_CONFIG",
        Kind::Text,
        All("{}"),
        LENS_BATCHER,
        "JSON text for it",
    ),
    // Results.
    row(
        "OUT_DIR",
        Kind::Path,
        All("out"),
        PUBLISHER,
        "folder of the results; made where missing",
    ),
    row(
        "SINKS",
        Kind::Words(&[
            "jsonl",
            "mot",
            "coco",
            "overlay",
            "amqp",
            "websocket",
            "page",
            "rerun",
            "none",
        ]),
        All("jsonl"),
        PUBLISHER,
        "jsonl: tracks.jsonl; mot: MOTChallenge text; coco: COCO JSON; overlay: video with masks; amqp: rows to a broker; websocket: rows to who connects; page: the live page; rerun: a recording for the Rerun viewer, where it is built in; none: only count",
    ),
    row(
        "JSONL_MAX_MB",
        at_least(0),
        All("0"),
        PUBLISHER,
        "size in MiB at which tracks.jsonl is put aside as tracks-NNNNN.jsonl and begun anew; 0: never",
    ),
    row(
        "AMQP_SINK_URL",
        Kind::Text,
        Unset,
        PUBLISHER,
        "broker for the sink amqp (amqp:// or amqps://); set it in the environment, not in a graph",
    ),
    row(
        "AMQP_SINK_EXCHANGE",
        Kind::Text,
        All("tracklens"),
        PUBLISHER,
        "topic exchange for rows, declared (durable); routing keys are tracks.STREAM and identifications.STREAM",
    ),
    row(
        "AMQP_SINK_QUEUE",
        Kind::Text,
        Unset,
        PUBLISHER,
        "queue that gets every row, declared (durable) and bound; unset: whoever wants rows binds a queue",
    ),
    row(
        "AMQP_SINK_OUTBOX_MB",
        Kind::Integer {
            min: 1,
            max: 1_000_000,
        },
        All("1024"),
        PUBLISHER,
        "most MiB of rows that wait on disk for the broker; more are lost to this sink, and counted",
    ),
    row(
        "AMQP_SINK_FLUSH_SECONDS",
        number(0.0, 3600.0),
        All("10"),
        PUBLISHER,
        "how long the end of a run waits for the broker; what is left goes out with the next run",
    ),
    row(
        "LIVE_PAGE_BIND",
        Kind::Text,
        All("127.0.0.1:8080"),
        PUBLISHER,
        "address and port of the live page and the feed; port 0: any free one (it is logged)",
    ),
    row(
        "LIVE_PAGE_TOKEN",
        Kind::Text,
        Unset,
        PUBLISHER,
        "what must be shown to look, needed where LIVE_PAGE_BIND is not this machine alone; set it in the environment, not in a graph",
    ),
    row(
        "LIVE_PAGE_FPS",
        number(0.1, 60.0),
        All("12"),
        PUBLISHER,
        "most pictures a second and stream on the live page",
    ),
    row(
        "RESUME",
        Kind::Bool,
        All("false"),
        PUBLISHER,
        "add to the files of an earlier run instead of replacing them",
    ),
    // Sources.
    row(
        "SOURCES",
        Kind::Text,
        Unset,
        DECODER,
        "YAML list of streams: - {id: NAME, url: FILE-OR-URL}",
    ),
    row(
        "SOURCE_LOOP",
        at_least(0),
        All("1"),
        DECODER,
        "how often a file is played; 0 is for ever",
    ),
    row(
        "DECODER_THREADS",
        Kind::Integer { min: 0, max: 64 },
        All("0"),
        DECODER,
        "decoding threads per stream; 0 chooses: cores + 1, twice as many for a single file",
    ),
    row(
        "DECODER_HWACCEL",
        Kind::Text,
        All("none"),
        DECODER,
        "decoding hardware: none, auto, or FFmpeg's name of a device (cuda, vaapi, qsv ...)",
    ),
    row(
        "SOURCE_TIMEOUT_SECONDS",
        number(1.0, 3600.0),
        All("10"),
        DECODER,
        "how long a network source may say nothing before it counts as lost",
    ),
    row(
        "SOURCE_RECONNECT",
        Kind::OneOf(&["auto", "true", "false"]),
        All("auto"),
        DECODER,
        "open a network source again when it is lost; auto: in live graphs",
    ),
    // Video that is sent to us.
    row(
        "INGEST_WEBSOCKET",
        Kind::Bool,
        All("true"),
        INGEST,
        "serve ws://HOST:PORT/streams/{stream_id}",
    ),
    row(
        "INGEST_HOST",
        Kind::Text,
        All("0.0.0.0"),
        INGEST,
        "address to listen on; without INGEST_TOKEN always 127.0.0.1",
    ),
    row(
        "INGEST_PORT",
        Kind::Integer {
            min: 0,
            max: 65_535,
        },
        All("8765"),
        INGEST,
        "port of the WebSocket server; 0: any free one (it is logged)",
    ),
    row(
        "INGEST_TOKEN",
        Kind::Text,
        Unset,
        INGEST,
        "what senders must show; set it in the environment, not in a graph",
    ),
    row(
        "INGEST_TLS_CERT",
        Kind::Path,
        Unset,
        INGEST,
        "certificate chain (PEM): serve wss:// instead of ws://; with INGEST_TLS_KEY",
    ),
    row(
        "INGEST_TLS_KEY",
        Kind::Path,
        Unset,
        INGEST,
        "private key (PEM) of INGEST_TLS_CERT",
    ),
    row(
        "INGEST_AMQP_URL",
        Kind::Text,
        Unset,
        INGEST,
        "broker to take chunks from (amqp:// or amqps://); set it in the environment, not in a graph",
    ),
    row(
        "INGEST_AMQP_QUEUE",
        Kind::Text,
        All("tracklens.chunks"),
        INGEST,
        "queue to take chunks from; declared (durable) where there is none",
    ),
    row(
        "INGEST_AMQP_PREFETCH",
        Kind::Integer {
            min: 1,
            max: 65_535,
        },
        All("64"),
        INGEST,
        "messages taken from the broker and not acknowledged",
    ),
    row(
        "INGEST_MAX_MESSAGE_MB",
        number(0.001, 256.0),
        All("8"),
        INGEST,
        "largest message in MiB; a larger one ends its stream (WebSocket) or is rejected (AMQP)",
    ),
    row(
        "INGEST_MAX_RATE_MBIT",
        number(0.01, 10_000.0),
        All("100"),
        INGEST,
        "megabits per second and WebSocket, each message counted 1 KiB longer; faster ones are read slower",
    ),
    row(
        "INGEST_MAX_STREAMS",
        Kind::Integer { min: 1, max: 4096 },
        All("64"),
        INGEST,
        "streams at once",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_rows_up_by_name() {
        assert!(find("TARGET_FPS").is_some());
        assert!(find("NO_SUCH").is_none());
    }
}
