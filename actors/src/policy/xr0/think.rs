//! The brain's half: images and instruction → context. Loads the vision-language model alone.

use vlad_motion::policy::{ContextSink, PolicyError, Think, ThinkJob};
use vlad_wire::manifest::ViewLabel;
use vlad_wire::msg::sense::Observation;
use vlad_wire::msg::think::{ContextHead, Digest};
use vlad_xr0::checkpoint::Checkpoint;
use vlad_xr0::device::DeviceName;
use vlad_xr0::model::{Profile, Prompt, View, Vlm};
use vlad_xr0::preprocess::RgbImage;
use vlad_xr0::trace::Blind;

use super::error::Xr0Error;
use super::pool::Pool;
use super::thought::{Form, Thought};

/// The vision-language model on its own threads.
pub(super) struct Prefill {
    vlm: Vlm,
    form: Form,
    pub(super) pool: Pool,
}

impl Prefill {
    /// Loads the weights.
    pub(super) fn open(
        checkpoint: &Checkpoint,
        profile: Profile,
        device: DeviceName,
    ) -> Result<Self, Xr0Error> {
        let pool = Pool::new("think")?;
        let form = Form::new(checkpoint.config())?;
        let vlm = pool.run(|| Vlm::load(checkpoint, profile, &device.open()?))?;
        Ok(Self { vlm, form, pool })
    }

    /// Computes the context of one prompt: images with their labels, in the prompt's order.
    pub(super) fn thought(
        &self,
        images: &[(&str, RgbImage)],
        instruction: &str,
    ) -> Result<Thought, PolicyError> {
        let views = images.iter().map(|(label, image)| View { label, image });
        let prompt = Prompt {
            views: views.collect(),
            instruction,
        };
        let prompts = std::slice::from_ref(&prompt);
        let context = self.pool.run(|| self.vlm.context(prompts, &mut Blind));
        let context = context.map_err(|error| PolicyError::Decide(error.to_string()))?;
        Thought::new(&context, &self.form)
    }
}

/// The brain's half, for the cells of one manifest.
pub(super) struct Xr0Think {
    pub(super) prefill: Prefill,
    pub(super) views: Vec<ViewLabel>,
    pub(super) model_hash: Digest,
}

impl Think for Xr0Think {
    fn think(&mut self, jobs: &[ThinkJob], sink: &mut dyn ContextSink) -> Result<(), PolicyError> {
        for job in jobs {
            let images = self.images(&job.observation)?;
            let thought = self
                .prefill
                .thought(&images, job.task.instruction.as_str())?;
            sink.head(self.head(job, &thought)?);
            for part in thought.parts(job.request.id) {
                sink.part(part);
            }
        }
        Ok(())
    }
}

impl Xr0Think {
    /// The observation's images with their labels, in the manifest's order.
    fn images(&self, observation: &Observation) -> Result<Vec<(&str, RgbImage)>, PolicyError> {
        let images = self.views.iter().map(|label| image_of(observation, label));
        let labels = self.views.iter().map(|label| label.label.as_str());
        labels
            .zip(images)
            .map(|(label, image)| Ok((label, image?)))
            .collect()
    }

    fn head(&self, job: &ThinkJob, thought: &Thought) -> Result<ContextHead, PolicyError> {
        let observed = &job.observation.head;
        let too_many = |_| PolicyError::Decide("the prompt is too long".to_owned());
        Ok(ContextHead {
            request: job.request,
            obs_seq: observed.seq,
            obs_tick: observed.tick,
            captured_at_ns: observed.captured_at_ns,
            view_captured_ns: observed
                .views
                .iter()
                .map(|head| (head.view.clone(), head.captured_at_ns))
                .collect(),
            state: observed.state.clone(),
            p_end: thought.p_end,
            mask: thought.bits(),
            n_tokens: u32::try_from(thought.tokens.len()).map_err(too_many)?,
            n_parts: u16::try_from(thought.layers.len()).map_err(too_many)?,
            model_hash: self.model_hash.clone(),
            thought_from_ns: 0,
            thought_until_ns: 0,
        })
    }
}

/// Finds the image of a view.
fn image_of(observation: &Observation, label: &ViewLabel) -> Result<RgbImage, PolicyError> {
    let view = &label.view;
    let mut views = observation.head.views.iter().zip(&observation.images);
    let found = views.find(|(head, _)| head.view == *view);
    let (head, pixels) =
        found.ok_or_else(|| PolicyError::Decide(format!("the observation has no view {view}")))?;
    let (height, width) = (usize::from(head.height), usize::from(head.width));
    RgbImage::new(height, width, pixels.to_vec())
        .map_err(|error| PolicyError::Decide(format!("view {view}: {error}")))
}
