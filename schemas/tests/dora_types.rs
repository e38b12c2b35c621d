//! The Rust types and the dora types are the same.
#![allow(clippy::unwrap_used, missing_docs)]

use serde_yaml::Value;
use tracklens_schemas::arrow::datatypes::DataType;
use tracklens_schemas::{
    ChunkInfo, chunks, credit, crops, identifications, prompts, stream_events, tracks,
};

/// The name that the YAML gives to an Arrow type.
fn name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(item) => format!("List<{}>", name(item.data_type())),
        DataType::FixedSizeList(item, length) => {
            format!("FixedSizeList<{}, {length}>", name(item.data_type()))
        }
        DataType::Struct(_) => "Struct".into(),
        other => other.to_string(),
    }
}

#[test]
fn dora_types_say_what_the_rust_types_say() {
    let yaml: Value = serde_yaml::from_str(include_str!("../types/tracklens/v1.yml")).unwrap();
    let types = yaml["types"].as_mapping().unwrap();
    let rust = [
        ("Chunks", chunks::data_type()),
        ("Frames", DataType::UInt8),
        ("Credit", credit::data_type()),
        ("Prompts", prompts::data_type()),
        ("Tracks", tracks::data_type()),
        ("Crops", crops::data_type()),
        ("Identifications", identifications::data_type()),
        ("StreamEvents", stream_events::data_type()),
    ];
    assert_eq!(types.len(), rust.len());
    for (key, data_type) in rust {
        let declared = &types[key];
        assert_eq!(
            declared["arrow"].as_str(),
            Some(name(&data_type).as_str()),
            "{key}"
        );
        let DataType::Struct(fields) = data_type else {
            continue;
        };
        let ours: Vec<(String, String, bool)> = fields
            .iter()
            .map(|field| {
                (
                    field.name().clone(),
                    name(field.data_type()),
                    field.is_nullable(),
                )
            })
            .collect();
        let theirs: Vec<(String, String, bool)> = declared["fields"]
            .as_sequence()
            .unwrap()
            .iter()
            .map(|field| {
                let text = |key: &str| field[key].as_str().unwrap().to_string();
                (
                    text("name"),
                    text("type"),
                    field["nullable"].as_bool().unwrap(),
                )
            })
            .collect();
        assert_eq!(ours, theirs, "{key}");
    }
}

#[test]
fn the_metadata_of_chunks_is_what_rust_writes() {
    let yaml: Value = serde_yaml::from_str(include_str!("../types/tracklens/v1.yml")).unwrap();
    let declared = yaml["types"]["Chunks"]["metadata"].as_sequence().unwrap();
    let keys: Vec<&str> = declared
        .iter()
        .map(|item| item["key"].as_str().unwrap())
        .collect();
    let header = ["stream_id", "epoch", "frame"];
    assert_eq!(keys, [&header[..], &ChunkInfo::KEYS].concat());
}
