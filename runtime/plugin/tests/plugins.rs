//! Real libraries, loaded: the examples in Rust (built by cargo) and C (built here with `cc`), and
//! every way a plug-in can be wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::ArrayRef;
use arrow::buffer::Buffer;
use tempfile::TempDir;
use tracklens_plugin::schemas::{
    BBox, FrameIndex, FrameRow, Image, ImageInfo, PixelEncoding, Prompt, frame_rows, prompts,
};
use tracklens_plugin::{Kind, Plugin, PluginError};

const STRATEGY: Kind = Kind::PromptStrategy;

/// An example of this crate, where cargo puts it beside the tests.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join(format!("examples/lib{name}.so"));
    assert!(
        path.exists(),
        "{} is missing: cargo build --release --workspace --all-targets makes it",
        path.display()
    );
    path
}

/// A library of this C code, in a folder that goes with the test.
fn compiled(source: &Path) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("plugin.so");
    let output = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror"])
        .args(["-shared", "-fPIC", "-I"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/include"))
        .arg("-o")
        .args([&library, &source.to_path_buf()])
        .output()
        .expect("no C compiler: these tests need `cc`, as building FFmpeg's bindings does");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    (folder, library)
}

fn compiled_text(source: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.c");
    std::fs::write(&path, source).unwrap();
    compiled(&path)
}

/// A dark frame of 80x60 pixels, of a source twice as large, with a bright corner at the bottom right.
fn frame(look: bool) -> ArrayRef {
    let mut info = ImageInfo::new(80, 60, PixelEncoding::Yuv420p);
    (info.source_width, info.source_height) = (160, 120);
    let mut data = vec![20; info.byte_len()];
    for y in 45..60 {
        data[y * 80 + 60..(y + 1) * 80].fill(250);
    }
    let row = FrameRow {
        stream: "door".parse().unwrap(),
        frame: FrameIndex(0),
        fresh: true,
        look,
        image: Image::new(info, &data).unwrap(),
    };
    frame_rows::encode(&row, Buffer::from(data.clone()))
}

fn found(plugin: &mut Plugin, look: bool) -> Vec<Prompt> {
    prompts::decode(&plugin.process(&frame(look)).unwrap()).unwrap()
}

fn refusal(path: &Path, kind: Kind, config: &str) -> PluginError {
    let error = Plugin::load(path, kind, config).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&format!("{:?}", path.display().to_string())),
        "{text}"
    );
    assert!(!text.contains('\n') && text.len() < 700, "{text}");
    error
}

#[test]
fn the_example_in_rust_finds_the_brightest_cell() {
    let config = r#"{"cells": 4, "count": 1}"#;
    let mut plugin = Plugin::load(&example("brightest"), STRATEGY, config).unwrap();
    assert_eq!(plugin.name(), "brightest");
    let prompts = found(&mut plugin, true);
    assert_eq!(prompts.len(), 1);
    assert_eq!(prompts[0].bbox, Some(BBox::new(120.0, 90.0, 160.0, 120.0)));
    assert!((prompts[0].score - 250.0 / 255.0).abs() < 1e-6);
    assert_eq!(found(&mut plugin, false), []);
}

#[test]
fn the_example_in_c_proposes_a_grid_of_boxes() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/boxes.c");
    let (_folder, library) = compiled(&source);
    let mut plugin = Plugin::load(&library, STRATEGY, r#"{"columns": 2, "rows": 3}"#).unwrap();
    assert_eq!(plugin.name(), "boxes");
    let prompts = found(&mut plugin, true);
    assert_eq!(prompts.len(), 6);
    assert_eq!(prompts[3].bbox, Some(BBox::new(80.0, 40.0, 160.0, 80.0)));
    let told = (prompts[5].prompt_id, prompts[5].strategy.as_str());
    assert_eq!(told, (5, "boxes"));
    assert_eq!(
        (prompts[0].mask.as_ref(), prompts[0].points.len()),
        (None, 0)
    );
    assert_eq!(found(&mut plugin, false), []);

    // Results outlive their instance, and instances do not know of each other.
    let mut other = plugin.again().unwrap();
    let kept = plugin.process(&frame(true)).unwrap();
    drop(plugin);
    assert_eq!(prompts::decode(&kept).unwrap(), prompts);
    assert_eq!(found(&mut other, true).len(), 6);
    let error = refusal(&library, STRATEGY, r#"{"columns": 99}"#);
    assert!(error.to_string().contains("should be 1 to 32"), "{error}");
}

#[test]
fn files_that_are_missing_or_no_libraries_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere.so");
    let error = refusal(&nowhere, STRATEGY, "{}");
    assert!(matches!(error, PluginError::Missing { .. }), "{error}");

    let text = folder.path().join("text.so");
    for content in ["", "no library, but a text", "\x7fELF and no more"] {
        std::fs::write(&text, content).unwrap();
        let error = refusal(&text, STRATEGY, "{}");
        assert!(matches!(error, PluginError::NoLibrary { .. }), "{error}");
    }
    let error = refusal(folder.path(), STRATEGY, "{}");
    assert!(matches!(error, PluginError::NoLibrary { .. }), "{error}");
    // A name without a folder is a file here, not one of the system's libraries.
    let error = refusal(Path::new("libc.so.6"), STRATEGY, "{}");
    assert!(matches!(error, PluginError::Missing { .. }), "{error}");
}

#[test]
fn a_library_without_the_symbol_is_no_plugin() {
    let (_folder, library) = compiled_text("int something_else(void) { return 1; }\n");
    let error = refusal(&library, STRATEGY, "{}");
    assert!(matches!(error, PluginError::NoSymbol { .. }), "{error}");

    let unresolved =
        "extern int nowhere(void);\nint (*tracklens_plugin(void))(void) { return nowhere; }\n";
    let (_folder, library) = compiled_text(unresolved);
    let error = refusal(&library, STRATEGY, "{}");
    assert!(matches!(error, PluginError::NoLibrary { .. }), "{error}");
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn nothing_behind_a_wrong_version_is_read() {
    // The table is two words long: whoever reads on leaves it.
    let table = |words: &str| {
        compiled_text(&format!(
            "#include \"tracklens_plugin.h\"\n\
             static const uint32_t words[2] = {words};\n\
             const struct tracklens_plugin* tracklens_plugin(void) \
             {{ return (const struct tracklens_plugin*)words; }}\n"
        ))
    };
    let (_folder, library) = table("{TRACKLENS_PLUGIN_MAGIC, 7}");
    let error = refusal(&library, STRATEGY, "{}");
    assert!(error.to_string().contains("version 7"), "{error}");
    assert!(
        matches!(error, PluginError::Version { found: 7, .. }),
        "{error}"
    );
    let (_folder, library) = table("{1, 2}");
    let error = refusal(&library, STRATEGY, "{}");
    assert!(
        error.to_string().contains("TRACKLENS_PLUGIN_MAGIC"),
        "{error}"
    );
}

#[test]
fn null_pointers_in_the_table_are_named() {
    for (body, says) in [
        ("return 0;", "returned no table"),
        ("return &table;", "name is null"),
        ("table.name = \"x\"; return &table;", "create is null"),
    ] {
        let (_folder, library) = compiled_text(&format!(
            "#include \"tracklens_plugin.h\"\n\
             struct tracklens_plugin table = {{TRACKLENS_PLUGIN_MAGIC, 1, 1, 0, 0, 0, 0, 0}};\n\
             const struct tracklens_plugin* tracklens_plugin(void) {{ {body} }}\n"
        ));
        let error = refusal(&library, STRATEGY, "{}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// A plug-in in C whose `process` is this.
fn with_process(body: &str) -> (TempDir, PathBuf) {
    compiled_text(&format!(
        "#include \"tracklens_plugin.h\"\n\
         #include <string.h>\n\
         static int one;\n\
         static void* create(const char* config) {{ (void)config; return &one; }}\n\
         static void destroy(void* instance) {{ (void)instance; }}\n\
         static const char* last_error(void* instance) {{ (void)instance; return 0; }}\n\
         static void done(struct ArrowArray* a) {{ one++; a->release = 0; }}\n\
         static void schema_done(struct ArrowSchema* s) {{ s->release = 0; }}\n\
         static int process(void* instance, struct ArrowArray* in, struct ArrowSchema* in_schema,\n\
           struct ArrowArray* out, struct ArrowSchema* out_schema) {{\n\
           (void)instance; (void)in; (void)in_schema; (void)out; (void)out_schema;\n\
           (void)done; (void)schema_done; {body} }}\n\
         const struct tracklens_plugin* tracklens_plugin(void) {{\n\
           static const struct tracklens_plugin table = {{TRACKLENS_PLUGIN_MAGIC, 1, 1, \"bad\",\n\
             create, process, destroy, last_error}};\n\
           return &table; }}\n"
    ))
}

#[test]
fn batches_that_are_none_are_refused_at_load() {
    for (body, says) in [
        ("return TRACKLENS_OK;", "released already"),
        ("return TRACKLENS_ERROR;", "does not say why"),
        ("return 99;", "does not say why"),
        (
            "out->release = done; return TRACKLENS_OK;",
            "schema has null pointers",
        ),
        // The input handed on as the output, each struct moved: other columns, and released once.
        (
            "*out = *in; *out_schema = *in_schema; in->release = 0; in_schema->release = 0; return 0;",
            "column `prompt_id` is missing",
        ),
        // Released by the plug-in itself, as it may.
        (
            "in->release(in); in_schema->release(in_schema); return 1;",
            "does not say why",
        ),
        // Filled although it failed: released by the host.
        (
            "out->release = done; out_schema->release = schema_done; return 1;",
            "does not say why",
        ),
    ] {
        let (_folder, library) = with_process(body);
        let error = refusal(&library, STRATEGY, "{}");
        assert!(error.to_string().contains(says), "{body}: {error}");
    }
}

#[test]
fn what_is_released_is_released_once() {
    // Each call says in its error how many arrays have been released so far.
    let (_folder, library) = compiled_text(
        "#include \"tracklens_plugin.h\"\n\
         static char said[2];\n\
         static int calls, released;\n\
         static void* create(const char* config) { (void)config; return &calls; }\n\
         static void destroy(void* instance) { (void)instance; }\n\
         static const char* last_error(void* instance) {\n\
           (void)instance; said[0] = (char)('0' + released); return said; }\n\
         static void done(struct ArrowArray* a) { released++; a->release = 0; }\n\
         static void schema_done(struct ArrowSchema* s) { s->release = 0; }\n\
         static int process(void* instance, struct ArrowArray* in, struct ArrowSchema* in_schema,\n\
           struct ArrowArray* out, struct ArrowSchema* out_schema) {\n\
           (void)instance; (void)in; (void)in_schema;\n\
           out->release = done; out_schema->release = schema_done; out_schema->format = \"i\";\n\
           return calls++ % 2 ? TRACKLENS_ERROR : TRACKLENS_OK; }\n\
         const struct tracklens_plugin* tracklens_plugin(void) {\n\
           static const struct tracklens_plugin table = {TRACKLENS_PLUGIN_MAGIC, 1, 1, \"counts\",\n\
             create, process, destroy, last_error};\n\
           return &table; }\n",
    );
    let columns = Plugin::load(&library, STRATEGY, "{}").unwrap_err();
    assert!(matches!(columns, PluginError::Columns { .. }), "{columns}");
    // The library is the same one: it still counts. The array of this call goes after its error text.
    let error = Plugin::load(&library, STRATEGY, "{}").unwrap_err();
    assert!(error.to_string().ends_with("failed: 1"), "{error}");
    Plugin::load(&library, STRATEGY, "{}").unwrap_err();
    let error = Plugin::load(&library, STRATEGY, "{}").unwrap_err();
    assert!(error.to_string().ends_with("failed: 3"), "{error}");
}

#[test]
fn a_plugin_of_another_kind_is_not_taken() {
    let error = refusal(&example("brightest"), Kind::Identifier, "{}");
    assert!(
        error
            .to_string()
            .ends_with("is of kind prompt-strategy, expected identifier"),
        "{error}"
    );
}

#[test]
fn a_configuration_that_is_refused_is_said() {
    let plugin = example("misbehaving");
    let error = refusal(&plugin, STRATEGY, "{does");
    assert!(matches!(error, PluginError::Config { .. }), "{error}");
    let error = refusal(&plugin, STRATEGY, r#"{"does": "refuse"}"#);
    assert!(
        error
            .to_string()
            .ends_with("refuses its configuration: does is set to refuse"),
        "{error}"
    );
    let error = refusal(&plugin, STRATEGY, r#"{"does": "panic-at-once"}"#);
    assert!(
        error.to_string().ends_with("no configuration like this"),
        "{error}"
    );
    let error = refusal(&example("brightest"), STRATEGY, r#"{"cells": 0}"#);
    assert!(error.to_string().contains("cells should be 1 to 64"));
}

#[test]
fn other_columns_are_found_out_before_the_first_frame() {
    let plugin = example("misbehaving");
    let error = refusal(&plugin, STRATEGY, r#"{"does": "columns"}"#);
    assert!(
        error.to_string().ends_with("column `score` is missing"),
        "{error}"
    );
    let error = refusal(&plugin, STRATEGY, r#"{"does": "no-struct"}"#);
    assert!(matches!(error, PluginError::Columns { .. }), "{error}");
}

#[test]
fn after_a_panic_or_an_error_the_next_call_works() {
    for (does, says) in [
        ("panic", "panicked: a panic on request"),
        ("error", "failed: an error on request"),
        ("columns", "column `score` is missing"),
    ] {
        let config = format!(r#"{{"does": "{does}", "times": 2}}"#);
        let mut plugin = Plugin::load(&example("misbehaving"), STRATEGY, &config).unwrap();
        for _ in 0..2 {
            let error = plugin.process(&frame(true)).unwrap_err();
            assert!(error.to_string().ends_with(says), "{error}");
        }
        assert_eq!(found(&mut plugin, true).len(), 1);
    }
}

#[test]
fn values_out_of_range_are_left_to_the_decoder_and_wrong_input_to_the_host() {
    let config = r#"{"does": "hostile", "times": 1}"#;
    let mut plugin = Plugin::load(&example("misbehaving"), STRATEGY, config).unwrap();
    let batch = plugin.process(&frame(true)).unwrap();
    assert!(prompts::decode(&batch).is_err());
    let error = plugin.process(&batch).unwrap_err();
    assert!(
        error.to_string().ends_with("column `stream_id` is missing"),
        "{error}"
    );
}
