//! JSON with places to be filled: `"{{image}}"` in any string, and `{"each": …}`, which becomes a list
//! with one filled copy per picture.

use serde_json::{Map, Value};

/// Places that are filled per picture.
const PLACES: [&str; 4] = ["{{image}}", "{{width}}", "{{height}}", "{{track_id}}"];
/// The place of the key.
pub(super) const KEY: &str = "{{key}}";

/// What is put in the places.
#[derive(Clone, Debug, Default)]
pub(super) struct Filling {
    /// The JPEG, base64.
    pub(super) image: String,
    /// Width in pixels.
    pub(super) width: u32,
    /// Height in pixels.
    pub(super) height: u32,
    /// The track.
    pub(super) track_id: u32,
}

/// Whether the template has a list with one entry per picture.
#[must_use]
pub(super) fn has_each(template: &Value) -> bool {
    match template {
        Value::Object(map) => is_each(map) || map.values().any(has_each),
        Value::Array(list) => list.iter().any(has_each),
        _ => false,
    }
}

fn is_each(map: &Map<String, Value>) -> bool {
    map.len() == 1 && map.contains_key("each")
}

/// A place that is not known, such as `{{picture}}`.
#[must_use]
pub(super) fn unknown_place(template: &Value) -> Option<String> {
    match template {
        Value::Object(map) => map.values().find_map(unknown_place),
        Value::Array(list) => list.iter().find_map(unknown_place),
        Value::String(text) => {
            let mut rest = text.clone();
            for place in PLACES.iter().chain([&KEY]) {
                rest = rest.replace(place, "");
            }
            let from = rest.find("{{")?;
            let to = rest[from..]
                .find("}}")
                .map_or(rest.len(), |at| from + at + 2);
            Some(rest[from..to].into())
        }
        _ => None,
    }
}

/// The template with its places filled. Outside a list, pictures are the first one.
#[must_use]
pub(super) fn fill(template: &Value, fillings: &[Filling], key: &str) -> Value {
    let none = Filling::default();
    fill_one(template, fillings, fillings.first().unwrap_or(&none), key)
}

fn fill_one(template: &Value, all: &[Filling], own: &Filling, key: &str) -> Value {
    match template {
        Value::Object(map) if is_each(map) => {
            let one = &map["each"];
            all.iter().map(|own| fill_one(one, all, own, key)).collect()
        }
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| (name.clone(), fill_one(value, all, own, key)))
            .collect(),
        Value::Array(list) => list
            .iter()
            .map(|value| fill_one(value, all, own, key))
            .collect(),
        Value::String(text) => match text.as_str() {
            // Alone in its string, a number stays a number.
            "{{width}}" => own.width.into(),
            "{{height}}" => own.height.into(),
            "{{track_id}}" => own.track_id.into(),
            _ => fill_text(text, own, key).into(),
        },
        other => other.clone(),
    }
}

fn fill_text(text: &str, own: &Filling, key: &str) -> String {
    text.replace("{{width}}", &own.width.to_string())
        .replace("{{height}}", &own.height.to_string())
        .replace("{{track_id}}", &own.track_id.to_string())
        .replace(KEY, key)
        .replace("{{image}}", &own.image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_are_filled_alone_and_per_picture() {
        let fillings = [("AAA", 1), ("BBB", 2)].map(|(image, track_id)| Filling {
            image: image.into(),
            width: 30,
            height: 20,
            track_id,
        });
        let template = json!({
            "auth": "key {{key}}",
            "items": {"each": {"data": "jpeg:{{image}}", "id": "{{track_id}}", "w": "{{width}}"}},
            "first": "{{image}}", "n": 3,
        });
        assert!(has_each(&template));
        let expected = json!({
            "auth": "key k",
            "items": [{"data": "jpeg:AAA", "id": 1, "w": 30}, {"data": "jpeg:BBB", "id": 2, "w": 30}],
            "first": "AAA", "n": 3,
        });
        assert_eq!(fill(&template, &fillings, "k"), expected);
        assert_eq!(unknown_place(&template), None);
        let wrong = json!([{"a": "x {{imgae}} y"}]);
        assert_eq!(unknown_place(&wrong).as_deref(), Some("{{imgae}}"));
        assert!(!has_each(&wrong));
    }
}
