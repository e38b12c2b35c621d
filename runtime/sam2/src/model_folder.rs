//! A model's folder: `model.toml` and four ONNX files, found and checked before anything runs.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tracklens_onnx::OnnxError;

/// The description in a model's folder.
pub const FILE: &str = "model.toml";

/// `model.toml` (docs/models.md).
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct ModelConfig {
    /// What it is.
    pub model: About,
    /// What its encoder takes.
    pub input: Input,
    /// The sizes of its tensors.
    pub geometry: Geometry,
    /// What it remembers.
    pub memory: MemoryRules,
    /// How one of its candidates is chosen.
    pub selection: SelectionRules,
    /// Its files.
    pub modules: ModuleFiles,
}

/// What a model is.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct About {
    /// What SAM2_MODEL_SIZE calls it.
    pub name: String,
    /// `sam2.1` or `nano`.
    pub family: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
}

/// What a model's encoder takes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub struct Input {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Mean of red, green, blue in 0..1.
    pub mean: [f32; 3],
    /// Deviation of red, green, blue.
    pub std: [f32; 3],
}

/// The sizes of a model's tensors.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Geometry {
    /// Channels, height, width of the embedding.
    pub embedding: [usize; 3],
    /// Channels, height, width of the finest features.
    pub high_res_0: [usize; 3],
    /// Channels, height, width of the next finer features.
    pub high_res_1: [usize; 3],
    /// Channels of a memory; its height and width are the embedding's.
    pub memory_channels: usize,
    /// Height, width of the mask logits.
    pub mask: [usize; 2],
    /// Candidate masks.
    pub candidates: usize,
}

impl Geometry {
    /// Numbers in a memory.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        self.memory_channels * self.embedding[1] * self.embedding[2]
    }

    /// Numbers in an object pointer.
    #[must_use]
    pub fn pointer_len(&self) -> usize {
        self.embedding[0]
    }

    /// Numbers in a mask.
    #[must_use]
    pub fn mask_len(&self) -> usize {
        self.mask[0] * self.mask[1]
    }
}

/// What a model remembers of an object.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub struct MemoryRules {
    /// One more than the recent frames attended to.
    pub frames: usize,
    /// Most conditioning frames attended to.
    pub conditioning_frames: usize,
    /// Every n-th recent frame is attended to, and the newest.
    #[serde(default = "one")]
    pub temporal_stride: u64,
    /// Frames whose pointers are attended to; 0: none.
    pub pointers: usize,
    /// Predicted IoU from which the mask of a recent frame is remembered for good; without it, every
    /// recent frame is, seen or not (`least_iou`).
    pub least_iou: Option<f32>,
}

fn one() -> u64 {
    1
}

/// How one of the candidates is chosen.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub struct SelectionRules {
    /// Candidates 1 … while tracking.
    pub multimask_tracking: bool,
    /// From and to which number of points candidates 1 … answer a prompt.
    pub multimask_points: [usize; 2],
    /// Distance of the two thresholds whose areas are compared.
    pub stability_delta: f32,
    /// Ratio of the areas below which candidate 0 is not trusted.
    pub stability_threshold: f32,
    /// How far an object gets from one frame to the next, as a share of its side; without it,
    /// anywhere (`reach`).
    pub reach: Option<f32>,
    /// Similarity of two appearances ([`crate::appearance`]) from which they may be the same object;
    /// without it, appearances say nothing (`similarity`).
    pub similarity: Option<f32>,
}

/// The files of a model.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct ModuleFiles {
    /// Pixels to features.
    pub image_encoder: ModuleFile,
    /// Features and memories to features.
    pub memory_attention: ModuleFile,
    /// Features and prompts to masks.
    pub mask_decoder: ModuleFile,
    /// Features and mask to a memory.
    pub memory_encoder: ModuleFile,
}

/// One file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct ModuleFile {
    /// Its name in the folder.
    pub file: String,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// What is wrong with a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No folder of that name where models are looked for.
    #[error(
        "no model {name:?}: there is no {name}/model.toml in {searched}; install one with \
         `tracklens models pull {name}`, or set SAM2_MODEL_DIR to the folder that holds it \
         (models found: {found})"
    )]
    NotFound {
        /// The model.
        name: String,
        /// The folders that were searched.
        searched: String,
        /// The models that are there.
        found: String,
    },
    /// The description cannot be read.
    #[error("the model's description {path:?} cannot be read: {reason}")]
    Config {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value that no model has.
    #[error("{path:?} says {field} = {found}, expected {expected}")]
    Value {
        /// The file.
        path: String,
        /// The field.
        field: &'static str,
        /// What may stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A module's file is not there.
    #[error(
        "the module {module} is missing: {path:?} cannot be read ({reason}); fetch the model again"
    )]
    ModuleMissing {
        /// The module.
        module: &'static str,
        /// Its file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// A file is not what the description says.
    #[error(
        "{path:?} is damaged or another file: expected sha256 {expected}, found {found}; fetch the \
         model again"
    )]
    Checksum {
        /// The file.
        path: String,
        /// The description's.
        expected: String,
        /// The file's.
        found: String,
    },
    /// Description and module disagree, or the module is no such module.
    #[error("{path:?}: expected {direction} {expected}, found {found}; export the model again")]
    Shape {
        /// The file.
        path: String,
        /// Input or output.
        direction: &'static str,
        /// Name, type and shape that were expected.
        expected: String,
        /// What the module has.
        found: String,
    },
    /// The system gives no thread.
    #[error("cannot start the thread of the image encoder: {0}")]
    Thread(String),
    /// Library, device or file do not work.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
}

/// A model's folder whose description and files are in order.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    /// The folder.
    pub path: PathBuf,
    /// Its description.
    pub config: ModelConfig,
}

impl ModelFolder {
    /// Reads and checks a folder.
    ///
    /// # Errors
    /// The first thing that is missing or wrong.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = path.join(FILE);
        let unreadable = |reason: String| ModelError::Config {
            path: file.display().to_string(),
            reason,
        };
        let text = std::fs::read_to_string(&file).map_err(|error| unreadable(error.to_string()))?;
        let config: ModelConfig = toml::from_str(&text)
            .map_err(|error| unreadable(error.to_string().replace('\n', " ").trim().to_owned()))?;
        check_values(&config, &file)?;
        let folder = Self {
            path: path.to_owned(),
            config,
        };
        for (module, file) in folder.modules() {
            folder.check_file(module, file)?;
        }
        Ok(folder)
    }

    /// The modules' names and files.
    #[must_use]
    pub fn modules(&self) -> [(&'static str, &ModuleFile); 4] {
        let modules = &self.config.modules;
        [
            ("image_encoder", &modules.image_encoder),
            ("memory_attention", &modules.memory_attention),
            ("mask_decoder", &modules.mask_decoder),
            ("memory_encoder", &modules.memory_encoder),
        ]
    }

    fn check_file(&self, module: &'static str, file: &ModuleFile) -> Result<(), ModelError> {
        let path = self.path.join(&file.file);
        let found = sha256(&path).map_err(|error| ModelError::ModuleMissing {
            module,
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        if found.eq_ignore_ascii_case(&file.sha256) {
            Ok(())
        } else {
            Err(ModelError::Checksum {
                path: path.display().to_string(),
                expected: file.sha256.clone(),
                found,
            })
        }
    }
}

fn check_values(config: &ModelConfig, file: &Path) -> Result<(), ModelError> {
    let wrong = |field, expected, found: String| ModelError::Value {
        path: file.display().to_string(),
        field,
        expected,
        found,
    };
    let sides = [config.input.width, config.input.height];
    let geometry = &config.geometry;
    let sizes = geometry
        .embedding
        .iter()
        .chain(&geometry.high_res_0)
        .chain(&geometry.high_res_1)
        .chain(&geometry.mask)
        .chain([&geometry.memory_channels]);
    let largest = 8192;
    if sides.iter().any(|side| !(16..=largest).contains(side)) {
        let found = format!("{} x {}", config.input.width, config.input.height);
        return Err(wrong("input", "sides of 16 to 8192 pixels", found));
    }
    if sizes.into_iter().any(|size| !(1..=largest).contains(size)) {
        let found = format!("{geometry:?}");
        return Err(wrong("geometry", "sizes of 1 to 8192", found));
    }
    if !(1..=16).contains(&geometry.candidates) {
        let found = geometry.candidates.to_string();
        return Err(wrong("geometry.candidates", "1 to 16", found));
    }
    let memory = &config.memory;
    if memory.frames < 1 || memory.conditioning_frames < 1 || memory.temporal_stride < 1 {
        let found = format!("{memory:?}");
        return Err(wrong("memory", "frames and strides of at least 1", found));
    }
    if memory.frames > 64 || memory.conditioning_frames > 64 || memory.pointers > 256 {
        let found = format!("{memory:?}");
        return Err(wrong("memory", "at most 64 frames, 256 pointers", found));
    }
    if config.input.std.iter().any(|deviation| *deviation <= 0.0) {
        let found = format!("{:?}", config.input.std);
        return Err(wrong("input.std", "numbers above 0", found));
    }
    Ok(())
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        // Writing to a string does not fail.
        let _written = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// Where models are looked for: the given folders first, then what lies beside the program (a
/// checkout, an unpacked release) or above the folder it runs in.
#[must_use]
pub fn search_path(
    given: &[PathBuf],
    program: Option<&Path>,
    current: Option<&Path>,
) -> Vec<PathBuf> {
    let mut folders = given.to_vec();
    let above = |path: &Path| -> Vec<PathBuf> {
        path.ancestors()
            .skip(1)
            .flat_map(|folder| {
                [
                    folder.join("models"),
                    folder.join("nodes/sam2-tracker/models"),
                ]
            })
            .collect()
    };
    folders.extend(program.map(above).unwrap_or_default());
    // The folder itself counts too.
    folders.extend(
        current
            .map(|folder| above(&folder.join("graph")))
            .unwrap_or_default(),
    );
    folders.retain(|folder| folder.is_dir() || given.contains(folder));
    let mut seen = Vec::new();
    folders.retain(|folder| {
        let new = !seen.contains(folder);
        seen.push(folder.clone());
        new
    });
    folders
}

/// The folder of a model of this name.
///
/// # Errors
/// Where no folder holds it.
pub fn find(name: &str, folders: &[PathBuf]) -> Result<PathBuf, ModelError> {
    let place = folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|folder| folder.join(FILE).is_file());
    place.ok_or_else(|| {
        let join = |texts: Vec<String>| match texts.is_empty() {
            true => "none".to_owned(),
            false => texts.join(", "),
        };
        ModelError::NotFound {
            name: name.to_owned(),
            searched: join(folders.iter().map(|f| f.display().to_string()).collect()),
            found: join(installed(folders)),
        }
    })
}

/// Names of the models in these folders.
#[must_use]
pub fn installed(folders: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join(FILE).is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}
