//! Names of the classes, and which of them are wanted.

use crate::detector::DetectorError;

/// The 80 classes of COCO (Lin et al., 2014) in the order of their numbers.
pub const COCO: [&str; 80] = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
];

/// The wanted classes of a model.
#[derive(Clone, Debug)]
pub struct ClassFilter {
    wanted: Vec<bool>,
}

impl ClassFilter {
    /// The classes of these names or numbers; all of them where there are none. Only models with
    /// COCO's 80 classes have names.
    ///
    /// # Errors
    /// A name that the model does not know.
    pub fn new(classes: usize, names: &[String]) -> Result<Self, DetectorError> {
        let mut wanted = vec![names.is_empty(); classes];
        for name in names {
            let number = Self::number(classes, name.trim());
            let slot = number.and_then(|number| wanted.get_mut(number));
            *slot.ok_or_else(|| DetectorError::UnknownClass {
                name: name.clone(),
                known: if classes == COCO.len() {
                    COCO.join(", ")
                } else {
                    format!("the numbers 0 to {}", classes.saturating_sub(1))
                },
            })? = true;
        }
        Ok(Self { wanted })
    }

    fn number(classes: usize, name: &str) -> Option<usize> {
        if let Ok(number) = name.parse() {
            return Some(number);
        }
        if classes != COCO.len() {
            return None;
        }
        COCO.iter()
            .position(|known| known.eq_ignore_ascii_case(name))
    }

    /// Whether this class is to be reported.
    #[must_use]
    pub fn wants(&self, class: usize) -> bool {
        self.wanted.get(class).is_some_and(|&wanted| wanted)
    }

    /// Name of a class; `object` where the model's classes have no known names.
    #[must_use]
    pub fn name(&self, class: usize) -> &'static str {
        if self.wanted.len() == COCO.len() {
            COCO[class.min(COCO.len() - 1)]
        } else {
            "object"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_and_numbers_and_refuses_others() {
        let filter = ClassFilter::new(80, &["Person".into(), " car".into(), "7".into()]);
        let filter = filter.unwrap_or(ClassFilter { wanted: vec![] });
        let wanted: Vec<usize> = (0..90).filter(|&class| filter.wants(class)).collect();
        assert_eq!(wanted, [0, 2, 7]);
        assert!(ClassFilter::new(80, &["unicorn".into()]).is_err());
        assert!(ClassFilter::new(3, &["person".into()]).is_err());
        assert!(ClassFilter::new(3, &["3".into()]).is_err());
    }
}
