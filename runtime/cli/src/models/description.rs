//! `model.toml`: what a model says of itself, checked as a whole (docs/models.md).

use std::fmt;

use toml::{Table, Value};

use super::checksum::is_sha256;

/// The file's name in a model's folder.
pub(crate) const FILE: &str = "model.toml";

/// The modules that every model has.
pub(crate) const MODULES: [&str; 4] = [
    "image_encoder",
    "memory_attention",
    "mask_decoder",
    "memory_encoder",
];

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) name: &'static str,
    pub(crate) file: String,
    pub(crate) sha256: String,
}

/// What may stand in a field.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Bool,
    /// A whole number in a range.
    Whole(i64, i64),
    /// So many whole numbers of at least the second number.
    Wholes(usize, i64),
    /// A number in a range.
    Number(f64, f64),
    /// So many numbers, each above (true: strictly) zero or anything.
    Numbers(usize, bool),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => write!(f, "text"),
            Self::Bool => write!(f, "true or false"),
            Self::Whole(least, most) => write!(f, "a whole number, {least} to {most}"),
            Self::Wholes(count, least) => write!(f, "{count} whole numbers of at least {least}"),
            Self::Number(least, most) => write!(f, "a number, {least} to {most}"),
            Self::Numbers(count, true) => write!(f, "{count} numbers above 0"),
            Self::Numbers(count, false) => write!(f, "{count} numbers"),
        }
    }
}

impl Kind {
    fn takes(self, value: &Value) -> bool {
        let number = |value: &Value| match value {
            Value::Integer(number) => Some(*number as f64),
            Value::Float(number) => Some(*number).filter(|number| number.is_finite()),
            _ => None,
        };
        match (self, value) {
            (Self::Text, Value::String(text)) => !text.trim().is_empty(),
            (Self::Bool, Value::Boolean(_)) => true,
            (Self::Whole(least, most), Value::Integer(number)) => (least..=most).contains(number),
            (Self::Wholes(count, least), Value::Array(values)) => {
                let fits = |value: &Value| value.as_integer().is_some_and(|number| number >= least);
                values.len() == count && values.iter().all(fits)
            }
            (Self::Number(least, most), value) => {
                number(value).is_some_and(|number| (least..=most).contains(&number))
            }
            (Self::Numbers(count, above), Value::Array(values)) => {
                let fits = |value| number(value).is_some_and(|number| !above || number > 0.0);
                values.len() == count && values.iter().all(fits)
            }
            _ => false,
        }
    }
}

/// Every field: section, name, what it takes, whether it must be there.
const FIELDS: [(&str, &str, Kind, bool); 26] = [
    ("model", "name", Kind::Text, true),
    ("model", "family", Kind::Text, true),
    ("model", "version", Kind::Text, true),
    ("model", "licence", Kind::Text, true),
    ("model", "source", Kind::Text, true),
    ("input", "width", Kind::Whole(16, 8192), true),
    ("input", "height", Kind::Whole(16, 8192), true),
    ("input", "mean", Kind::Numbers(3, false), true),
    ("input", "std", Kind::Numbers(3, true), true),
    ("geometry", "embedding", Kind::Wholes(3, 1), true),
    ("geometry", "high_res_0", Kind::Wholes(3, 1), true),
    ("geometry", "high_res_1", Kind::Wholes(3, 1), true),
    ("geometry", "memory_channels", Kind::Whole(1, 8192), true),
    ("geometry", "mask", Kind::Wholes(2, 1), true),
    ("geometry", "candidates", Kind::Whole(1, 16), true),
    ("memory", "frames", Kind::Whole(1, 64), true),
    ("memory", "conditioning_frames", Kind::Whole(1, 64), true),
    ("memory", "temporal_stride", Kind::Whole(1, 1000), false),
    ("memory", "pointers", Kind::Whole(0, 256), true),
    ("memory", "least_iou", Kind::Number(0.0, 1.0), false),
    ("selection", "multimask_tracking", Kind::Bool, true),
    ("selection", "multimask_points", Kind::Wholes(2, 0), true),
    (
        "selection",
        "stability_delta",
        Kind::Number(0.0, 100.0),
        true,
    ),
    (
        "selection",
        "stability_threshold",
        Kind::Number(0.0, 1.0),
        true,
    ),
    ("selection", "reach", Kind::Number(0.0, 100.0), false),
    ("selection", "similarity", Kind::Number(-1.0, 1.0), false),
];

/// What a model says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Description {
    /// `tiny 1 (sam2.1, Apache-2.0)`, as far as it is known.
    pub(crate) about: String,
    pub(crate) licence: String,
    /// The modules whose entries are whole.
    pub(crate) modules: Vec<Module>,
    /// One sentence for each mistake.
    pub(crate) mistakes: Vec<String>,
}

impl Description {
    /// Reads the text of a `model.toml`.
    pub(crate) fn read(text: &str) -> Self {
        let mut description = Self::default();
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                let error: toml::de::Error = error;
                let text = error.to_string();
                let words: Vec<&str> = text.split_whitespace().collect();
                description
                    .mistakes
                    .push(format!("{FILE} is no TOML: {}", words.join(" ")));
                return description;
            }
        };
        for (section, name, kind, needed) in FIELDS {
            let value = table.get(section).and_then(|section| section.get(name));
            description.mistakes.extend(match value {
                None if needed => Some(format!(
                    "{FILE}: {section}.{name} is missing, expected {kind}"
                )),
                Some(value) if !kind.takes(value) => Some(format!(
                    "{FILE}: {section}.{name} is {value}, expected {kind}"
                )),
                _ => None,
            });
        }
        let text = |name| {
            let value = table.get("model").and_then(|section| section.get(name));
            value.and_then(Value::as_str).unwrap_or("?")
        };
        description.about = format!(
            "{} {} ({}, {})",
            text("name"),
            text("version"),
            text("family"),
            text("licence")
        );
        description.licence = text("licence").into();
        for module in MODULES {
            description.module(&table, module);
        }
        description
    }

    fn module(&mut self, table: &Table, name: &'static str) {
        let module = table.get("modules").and_then(|modules| modules.get(name));
        let text = |field| {
            module
                .and_then(|module| module.get(field))
                .and_then(Value::as_str)
        };
        let Some((file, sha256)) = text("file").zip(text("sha256")) else {
            self.mistakes
                .push(format!("{FILE}: modules.{name} needs file and sha256"));
            return;
        };
        if file.is_empty() || file.contains(['/', '\\']) || file.starts_with('.') {
            self.mistakes.push(format!(
                "{FILE}: modules.{name}.file is {file:?}, expected the name of a file in this folder"
            ));
        } else if !is_sha256(sha256) {
            self.mistakes.push(format!(
                "{FILE}: modules.{name}.sha256 is {sha256:?}, expected 64 hexadecimal digits"
            ));
        } else {
            self.modules.push(Module {
                name,
                file: file.into(),
                sha256: sha256.to_ascii_lowercase(),
            });
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// The example of docs/models.md with all modules, of this checksum.
    pub(crate) fn example(sha256: &str) -> String {
        let page = include_str!("../../../../docs/models.md");
        let (_, toml) = page.split_once("```toml\n").unwrap();
        let (toml, _) = toml.split_once("[modules.").unwrap();
        let modules = MODULES.map(|name| {
            format!("[modules.{name}]\nfile = \"{name}.onnx\"\nsha256 = \"{sha256}\"\n")
        });
        toml.to_string() + &modules.concat()
    }

    #[test]
    fn the_documented_example_is_whole() {
        let description = Description::read(&example(&"0".repeat(64)));
        assert_eq!(description.mistakes, [""; 0]);
        assert_eq!(description.about, "nano 1 (nano, Apache-2.0)");
        assert_eq!(description.modules.len(), 4);
        assert_eq!(description.modules[3].file, "memory_encoder.onnx");
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let text = example(&"0".repeat(64))
            .replace("width = 448", "width = \"wide\"")
            .replace("licence", "license")
            .replace("embedding = [64, 16, 28]", "embedding = [64, 16]")
            .replace(
                "file = \"mask_decoder.onnx\"",
                "file = \"../mask_decoder.onnx\"",
            )
            .replace("[modules.memory_encoder]", "[modules.other]");
        let mistakes = Description::read(&text).mistakes;
        let expected = [
            "model.licence is missing, expected text",
            "input.width is \"wide\", expected a whole number, 16 to 8192",
            "geometry.embedding is [64, 16], expected 3 whole numbers",
            "modules.mask_decoder.file is \"../mask_decoder.onnx\"",
            "modules.memory_encoder needs file and sha256",
        ];
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
        for (mistake, part) in mistakes.iter().zip(expected) {
            assert!(mistake.contains(part), "{mistake}");
        }
        let mistakes = Description::read("[model\nname").mistakes;
        assert!(mistakes[0].starts_with("model.toml is no TOML") && !mistakes[0].contains('\n'));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]a-z_.=0-9\" \n]{0,80}") {
            prop_assert!(!Description::read(&text).mistakes.is_empty());
        }
    }
}
