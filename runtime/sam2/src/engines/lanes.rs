//! The sessions of a module, which work on parts of a batch side by side.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{DynValue, TensorRef, ValueType};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tracklens_onnx::SessionSettings;

use super::tensors::{Expected, describe};
use crate::model_folder::{ModelError, ModelFolder};
use crate::modules::InferenceError;

/// Files of a model whose sessions have one thread each, in bytes, all together at most.
const SMALL: u64 = 64 << 20;

/// So many objects are attended to on one core in little more time than a frame is encoded on another
/// (nano): with 12 a core left to the encoder is worth it, with 16 it is idle for too long.
const WHILE_ENCODING: usize = 14;

/// One module: a session for each part of a batch that is worked on at the same time.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) name: &'static str,
    pub(super) sessions: Vec<Session>,
    inputs: Vec<String>,
}

/// How many sessions of a module work side by side, and how each is made.
pub(super) fn lanes(
    folder: &ModelFolder,
    settings: &SessionSettings,
) -> Result<(usize, SessionSettings), ModelError> {
    let threads = match settings.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let bytes = folder.modules().map(|(_, file)| {
        let file = std::fs::metadata(folder.path.join(&file.file));
        file.map_or(0, |file| file.len())
    });
    let small = bytes.iter().sum::<u64>() <= SMALL;
    if small && tracklens_onnx::on_cpu(settings)? {
        let single = SessionSettings {
            threads: 1,
            ..settings.clone()
        };
        Ok((threads, single))
    } else {
        Ok((1, settings.clone()))
    }
}

/// A batch in at most `lanes` parts of nearly equal size.
pub(super) fn parts(objects: usize, lanes: usize) -> Vec<Range<usize>> {
    let lanes = lanes.clamp(1, objects.max(1));
    let border = |lane: usize| objects * lane / lanes;
    (0..lanes)
        .map(|lane| border(lane)..border(lane + 1))
        .collect()
}

/// The parts of a batch for memory attention. While the next frame is encoded, a core is left to that, for a
/// while; and what a frame has to do with those that are remembered is found anew for each part.
///
/// ONNX Runtime's kernels give an object alone, and more than 16 together, other last digits than 2 to 16.
/// So that two runs are alike whenever a frame is encoded, an object is alone only where it always is, and
/// parts of more than [`WHILE_ENCODING`] are always the same.
pub(super) fn attention_parts(objects: usize, lanes: usize, encoding: bool) -> Vec<Range<usize>> {
    let left = lanes.saturating_sub(usize::from(encoding));
    let lanes = if objects <= WHILE_ENCODING * left {
        left
    } else {
        lanes
    };
    parts(objects, lanes.min(objects / 2))
}

/// Takes the first numbers off a slice.
pub(super) fn cut<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (first, others) = std::mem::take(rest).split_at_mut(len);
    *rest = others;
    first
}

/// Threads for all but the first of so many lanes, which are there for good: none is started for a batch.
pub(super) fn pool(lanes: usize) -> Result<ThreadPool, ModelError> {
    ThreadPoolBuilder::new()
        .num_threads(lanes.saturating_sub(1).max(1))
        .thread_name(|lane| format!("lane-{}", lane + 1))
        .build()
        .map_err(|error| ModelError::Thread(error.to_string()))
}

/// Does all of it at the same time, the first on this thread.
pub(super) fn side_by_side<T: Send>(
    pool: &ThreadPool,
    work: impl Iterator<Item = impl FnOnce() -> Result<T, InferenceError> + Send>,
) -> Result<Vec<T>, InferenceError> {
    let work: Vec<_> = work.collect();
    let mut results: Vec<_> = work.iter().map(|_| None).collect();
    pool.in_place_scope(|scope| {
        let mut each = work.into_iter().zip(&mut results);
        let own = each.next();
        for (work, result) in each {
            scope.spawn(move |_| *result = Some(work()));
        }
        if let Some((work, result)) = own {
            *result = Some(work());
        }
    });
    results.into_iter().flatten().collect()
}

impl Engine {
    pub(super) fn open(
        name: &'static str,
        path: &Path,
        (lanes, settings): (usize, &SessionSettings),
        inputs: &[Expected],
        outputs: &[Expected],
    ) -> Result<Self, ModelError> {
        let session = tracklens_onnx::open(path, settings)?;
        let wrong = |direction, expected: String, found: String| ModelError::Shape {
            path: path.display().to_string(),
            direction,
            expected,
            found,
        };
        for input in session.inputs() {
            let expected = inputs.iter().find(|e| e.name == input.name());
            if !expected.is_some_and(|expected| expected.matches(input.dtype())) {
                let names = || inputs.iter().map(Expected::describe).collect::<Vec<_>>();
                let expected = expected.map_or_else(|| names().join(" or "), Expected::describe);
                return Err(wrong(
                    "input",
                    expected,
                    describe(input.name(), input.dtype()),
                ));
            }
        }
        for expected in outputs {
            let found = session.outputs().iter().find(|o| o.name() == expected.name);
            if !found.is_some_and(|output| expected.matches(output.dtype())) {
                let found = found.map_or_else(
                    || "no such output".to_owned(),
                    |output| describe(output.name(), output.dtype()),
                );
                return Err(wrong("output", expected.describe(), found));
            }
        }
        let inputs = session.inputs().iter().map(|i| i.name().to_owned());
        let inputs = inputs.collect();
        let mut sessions = vec![session];
        for _ in 1..lanes {
            sessions.push(tracklens_onnx::open(path, settings)?);
        }
        Ok(Self {
            name,
            inputs,
            sessions,
        })
    }

    /// Height and width that the module declares for an input.
    pub(super) fn size_of(&self, input: &str) -> Option<[usize; 2]> {
        let session = self.sessions.first()?;
        let input = session.inputs().iter().find(|i| i.name() == input)?;
        let ValueType::Tensor { shape, .. } = input.dtype() else {
            return None;
        };
        let [.., height, width] = shape[..] else {
            return None;
        };
        let side = |size: i64| usize::try_from(size).ok().filter(|size| *size > 0);
        Some([side(height)?, side(width)?])
    }

    /// The sessions, ready to run beside each other.
    pub(super) fn lanes(&mut self) -> impl Iterator<Item = Lane<'_>> {
        let (name, inputs) = (self.name, &self.inputs);
        self.sessions.iter_mut().map(move |session| Lane {
            name,
            session,
            inputs,
        })
    }

    pub(super) fn first(&mut self) -> Result<Lane<'_>, InferenceError> {
        let none = failed(self.name, 1, "no session".into());
        self.lanes().next().ok_or(none)
    }
}

/// One session of a module.
pub(super) struct Lane<'e> {
    name: &'static str,
    session: &'e mut Session,
    inputs: &'e [String],
}

impl Lane<'_> {
    /// Runs the module on those of the inputs that it declares.
    pub(super) fn run<'v, const N: usize>(
        &mut self,
        objects: usize,
        inputs: [(&'static str, SessionInputValue<'v>); N],
    ) -> Result<SessionOutputs<'_>, InferenceError> {
        let wanted: Vec<(Cow<'static, str>, SessionInputValue<'v>)> = inputs
            .into_iter()
            .filter(|(name, _)| self.inputs.iter().any(|input| input == name))
            .map(|(name, value)| (Cow::Borrowed(name), value))
            .collect();
        let name = self.name;
        self.session
            .run(wanted)
            .map_err(|error| failed(name, objects, error.to_string()))
    }
}

pub(super) fn failed(module: &'static str, objects: usize, reason: String) -> InferenceError {
    InferenceError {
        module,
        objects,
        reason: reason.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// A view of a buffer as an input.
pub(super) fn view<'a, T, const N: usize>(
    module: &'static str,
    objects: usize,
    shape: [usize; N],
    data: &'a [T],
) -> Result<SessionInputValue<'a>, InferenceError>
where
    T: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    TensorRef::from_array_view((shape, data))
        .map(Into::into)
        .map_err(|error| failed(module, objects, error.to_string()))
}

/// Copies an output into a buffer of its length.
pub(super) fn copy(
    module: &'static str,
    objects: usize,
    outputs: &SessionOutputs<'_>,
    name: &str,
    out: &mut [f32],
) -> Result<(), InferenceError> {
    out.copy_from_slice(output(module, objects, outputs, name, out.len())?);
    Ok(())
}

/// An output's numbers, so many.
pub(super) fn output<'o>(
    module: &'static str,
    objects: usize,
    outputs: &'o SessionOutputs<'_>,
    name: &str,
    len: usize,
) -> Result<&'o [f32], InferenceError> {
    let value = outputs
        .get(name)
        .ok_or_else(|| failed(module, objects, format!("no output {name}")))?;
    let (shape, data) = value
        .try_extract_tensor::<f32>()
        .map_err(|error| failed(module, objects, error.to_string()))?;
    if data.len() != len {
        let reason = format!("expected {len} numbers in {name}, came {shape:?}");
        return Err(failed(module, objects, reason));
    }
    Ok(data)
}

pub(super) fn numbers<'v>(
    module: &'static str,
    objects: usize,
    value: &'v DynValue,
) -> Result<&'v [f32], InferenceError> {
    let extracted = value.try_extract_tensor::<f32>();
    let extracted = extracted.map_err(|error| failed(module, objects, error.to_string()))?;
    Ok(extracted.1)
}

pub(super) fn repeat(
    module: &'static str,
    value: &DynValue,
    objects: usize,
    out: &mut Vec<f32>,
) -> Result<(), InferenceError> {
    let data = numbers(module, objects, value)?;
    out.clear();
    for _ in 0..objects {
        out.extend_from_slice(data);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn results_come_in_order_and_a_failure_is_told() {
        let pool = pool(3).unwrap();
        let double = |part: usize| move || Ok(2 * part);
        assert_eq!(
            side_by_side(&pool, (0..5).map(double)).unwrap(),
            [0, 2, 4, 6, 8]
        );
        let failing = (0..3).map(|part| {
            move || match part {
                1 => Err(failed("mask_decoder", part, "out of memory".into())),
                _ => Ok(part),
            }
        });
        let error = side_by_side(&pool, failing).unwrap_err();
        assert_eq!((error.module, error.objects), ("mask_decoder", 1));
    }

    proptest! {
        #[test]
        fn parts_for_attention_count_alike_whether_a_frame_is_encoded(
            objects in 1usize..90, lanes in 1usize..9,
        ) {
            let [during, after] = [true, false].map(|encoding| {
                attention_parts(objects, lanes, encoding)
            });
            let kernels_agree = |part: &Range<usize>| (2..=16).contains(&part.len());
            prop_assert!(
                during == after
                    || during.iter().chain(&after).all(kernels_agree)
            );
        }

        #[test]
        fn parts_cover_a_batch_and_differ_by_one_at_most(objects in 0usize..70, lanes in 1usize..9) {
            let parts = parts(objects, lanes);
            let ends: Vec<usize> = parts.iter().map(|part| part.end).collect();
            let starts: Vec<usize> = parts.iter().map(|part| part.start).collect();
            prop_assert_eq!(starts[0], 0);
            prop_assert_eq!(&starts[1..], &ends[..ends.len() - 1]);
            prop_assert_eq!(ends[ends.len() - 1], objects);
            let sizes = parts.iter().map(Range::len);
            let (least, most) = (sizes.clone().min(), sizes.max());
            prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1));
            prop_assert!(parts.len() <= lanes);
        }
    }
}
