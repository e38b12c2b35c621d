//! Pictures made easier to recognise before they are sent: a chain of steps, each of which one can leave
//! out, and a plug-in as the last.

mod contrast;
mod denoise;
mod dim;
mod sharpen;
mod upscale;
mod white_balance;

use std::path::PathBuf;
use std::sync::Arc;

use tracklens_plugin::{Kind, Plugin};
use tracklens_schemas::{Crop, crops};

pub use contrast::Contrast;
pub use denoise::Denoise;
pub use dim::Dim;
pub use sharpen::Sharpen;
pub use upscale::Upscale;
pub use white_balance::WhiteBalance;

use crate::backend::Shot;
use crate::candidate::View;
use crate::{LensError, Picture};

/// One step. It never fails: a picture that it can do nothing for stays as it is.
pub trait Enhancer {
    /// Its name in `LENS_ENHANCERS`.
    fn name(&self) -> &'static str;

    /// Makes a picture better, in place; its size may change, with the mask's.
    fn enhance(&mut self, picture: &mut Picture);
}

/// The steps by their names, in the order in which they do most good: the background goes first, so
/// that it has no say in colours and contrast; sizes change last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Darkens what is not the object.
    Dim,
    /// Takes noise off.
    Denoise,
    /// Takes the light's colour off.
    WhiteBalance,
    /// Brings out what lies in shadow or glare.
    Contrast,
    /// Enlarges small pictures.
    Upscale,
    /// Makes edges steeper.
    Sharpen,
}

/// What every thread builds its chain from.
#[derive(Clone, Debug, Default)]
pub struct ChainPlan {
    /// The steps, in this order.
    pub steps: Vec<Step>,
    /// A plug-in behind them, and its configuration.
    pub plug_in: Option<(PathBuf, String)>,
}

impl ChainPlan {
    /// A chain for this thread.
    ///
    /// # Errors
    /// Where the plug-in cannot be loaded.
    pub fn chain(&self) -> Result<Chain, LensError> {
        let steps = self.steps.iter().map(|step| -> Box<dyn Enhancer> {
            match step {
                Step::Dim => Box::new(Dim),
                Step::Denoise => Box::new(Denoise::default()),
                Step::WhiteBalance => Box::new(WhiteBalance),
                Step::Contrast => Box::new(Contrast),
                Step::Upscale => Box::new(Upscale),
                Step::Sharpen => Box::new(Sharpen::default()),
            }
        });
        let plug_in = match &self.plug_in {
            Some((path, config)) => Some(Plugin::load(path, Kind::Enhancer, config)?),
            None => None,
        };
        Ok(Chain {
            steps: steps.collect(),
            plug_in,
            failing: false,
        })
    }
}

/// The steps of one thread.
pub struct Chain {
    steps: Vec<Box<dyn Enhancer>>,
    plug_in: Option<Plugin>,
    failing: bool,
}

impl Chain {
    /// Makes pictures better. What the plug-in cannot do is left as the steps before made it.
    pub fn enhance(&mut self, shots: &mut [Shot]) {
        if !self.steps.is_empty() {
            for shot in shots.iter_mut() {
                let mut picture = shot.view.picture.clone();
                self.steps
                    .iter_mut()
                    .for_each(|step| step.enhance(&mut picture));
                replace(shot, picture);
            }
        }
        let trouble = self.plugged_in(shots).err();
        if let Some((word, text)) = &trouble {
            let metric = tracklens_node::metrics::BAD_MESSAGES;
            metrics::counter!(metric, "input" => "enhancer-plugin", "reason" => *word).increment(1);
            if !self.failing {
                tracing::error!("pictures go without the enhancer: {text}");
            }
        } else if self.failing {
            tracing::info!("the enhancer works again");
        }
        self.failing = trouble.is_some();
    }

    fn plugged_in(&mut self, shots: &mut [Shot]) -> Result<(), (&'static str, String)> {
        let Some(plugin) = &mut self.plug_in else {
            return Ok(());
        };
        let rows: Vec<Crop> = shots.iter().map(crate::backend::crop_row).collect();
        let answer = plugin.process(&crops::encode(&rows));
        let answer = answer.map_err(|error| (error.word(), error.to_string()))?;
        let better = crops::decode(&answer).map_err(|error| ("values", error.to_string()))?;
        let same = |(row, better): (&Crop, &Crop)| row.track_id == better.track_id;
        if better.len() != rows.len() || !rows.iter().zip(&better).all(same) {
            let text = format!(
                "expected {} crops of the same tracks, came {}",
                rows.len(),
                better.len()
            );
            return Err(("values", text));
        }
        for (shot, crop) in shots.iter_mut().zip(better) {
            if let Some(picture) = Picture::new(crop.width, crop.height, crop.pixels) {
                replace(shot, picture);
            }
        }
        Ok(())
    }
}

fn replace(shot: &mut Shot, picture: Picture) {
    shot.view = Arc::new(View {
        picture,
        ..View::clone(&shot.view)
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::picture::tests::scene;
    use proptest::prelude::*;

    pub(crate) const ALL: [Step; 6] = [
        Step::Dim,
        Step::Denoise,
        Step::WhiteBalance,
        Step::Contrast,
        Step::Upscale,
        Step::Sharpen,
    ];

    proptest! {
        /// Whatever the size, the mask and the order, a picture comes out whole.
        #[test]
        fn pictures_stay_whole(
            width in 1u32..40, height in 1u32..40, seed: u64, masked: bool,
            order in Just(ALL.to_vec()).prop_shuffle(),
        ) {
            let mut picture = scene(seed, width, height);
            let pixels = (width * height) as usize;
            picture.mask = masked.then(|| (0..pixels).map(|at| (at % 3 == 0).into()).collect());
            let plan = ChainPlan { steps: order, plug_in: None };
            for step in &mut plan.chain().unwrap().steps {
                step.enhance(&mut picture);
                let pixels = (picture.width * picture.height) as usize;
                prop_assert_eq!(picture.pixels.len(), 3 * pixels, "{}", step.name());
                prop_assert!(picture.mask.iter().all(|mask| mask.len() == pixels));
            }
        }
    }
}
