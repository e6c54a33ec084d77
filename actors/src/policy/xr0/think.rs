//! The brain's half: images and instruction → context. Loads the vision-language model alone.

use tracing::info;
use vlad_motion::policy::{ContextSink, PolicyError, Think, ThinkJob};
use vlad_wire::manifest::ViewLabel;
use vlad_wire::manifest::instruction::InstructionRule;
use vlad_wire::msg::sense::Observation;
use vlad_wire::msg::think::{ContextHead, ContextPart, Digest, PartData};
use vlad_xr0::checkpoint::Checkpoint;
use vlad_xr0::context::bytes::Encoding;
use vlad_xr0::context::{KvLayer, Tokens};
use vlad_xr0::device::DeviceName;
use vlad_xr0::error::Error;
use vlad_xr0::model::{Prepared, Profile, Prompt, View, Vlm};
use vlad_xr0::nn::weights::WeightType;
use vlad_xr0::preprocess::{ImageLimits, RgbImage};
use vlad_xr0::self_test::SelfTest;
use vlad_xr0::trace::Blind;

use super::error::Xr0Error;
use super::manifest::images;
use super::pool::Pool;
use super::setup::Half;
use super::shelf::{Place, Shelf};
use super::thought::{Form, to_bits};

/// Height and width of the warm-up's images: a common camera's.
const BLANK: (usize, usize) = (480, 640);

/// The vision-language model on its own threads.
pub(super) struct Prefill {
    vlm: Vlm,
    weights: WeightType,
    form: Form,
    pub(super) pool: Pool,
}

/// One image of a prompt.
pub(super) struct Seen<'a> {
    /// Its label in the prompt.
    pub(super) label: &'a str,
    /// What the camera saw.
    pub(super) image: RgbImage,
    /// How large it may be.
    pub(super) limits: Option<ImageLimits>,
}

/// The images of a prompt, in its order, and the sentence as it stands there.
pub(super) struct Question<'a> {
    pub(super) images: Vec<Seen<'a>>,
    pub(super) instruction: String,
}

impl Question<'_> {
    fn prompt(&self) -> Prompt<'_> {
        let views = self.images.iter().map(|seen| View {
            label: seen.label,
            image: &seen.image,
            limits: seen.limits,
        });
        Prompt {
            views: views.collect(),
            instruction: &self.instruction,
        }
    }
}

fn decide(error: impl std::fmt::Display) -> PolicyError {
    PolicyError::Decide(error.to_string())
}

impl Prefill {
    /// Loads the weights.
    pub(super) fn open(
        checkpoint: &Checkpoint,
        profile: Profile,
        half: Half,
    ) -> Result<Self, Xr0Error> {
        let pool = Pool::new("think")?;
        let form = Form::new(checkpoint.config())?;
        let options = half.options(profile)?;
        let vlm = pool.run(|| Vlm::load(checkpoint, &options))?;
        Ok(Self {
            vlm,
            weights: options.weights,
            form,
            pool,
        })
    }

    /// Tries the golden decision's first half.
    fn try_golden(&self, golden: &SelfTest) -> Result<(), Error> {
        let tried = self
            .pool
            .run(|| golden.check_vlm(&self.vlm, self.weights))?;
        info!(deviation = %tried, "the brain computes the golden context");
        Ok(())
    }

    /// Turns questions into tokens and pixels, as one batch.
    pub(super) fn prepare(&self, questions: &[&Question<'_>]) -> Result<Prepared, PolicyError> {
        let prompts: Vec<_> = questions.iter().map(|question| question.prompt()).collect();
        self.pool.run(|| self.vlm.prepare(&prompts)).map_err(decide)
    }

    /// Computes keys and values of a batch; `ready` gets each of the action expert's layers as soon
    /// as it is there, in order.
    pub(super) fn run(
        &self,
        prepared: &Prepared,
        ready: &mut (dyn FnMut(usize, KvLayer) -> Result<(), PolicyError> + Send),
    ) -> Result<(), PolicyError> {
        let mut refused = None;
        let done = self.pool.run(|| {
            self.vlm.prefill(prepared, &mut Blind, &mut |index, layer| {
                ready(index, layer).map_err(|error| {
                    let told = Error::input(error.to_string());
                    refused = Some(error);
                    told
                })
            })
        });
        done.map_err(|error| refused.unwrap_or_else(|| decide(error)))
    }
}

/// The brain's half, for the cells of one manifest.
pub(super) struct Xr0Think {
    pub(super) prefill: Prefill,
    /// Tried when the half is warmed up.
    pub(super) self_test: Option<SelfTest>,
    /// The manifest's views, each with how large its images may be.
    pub(super) views: Vec<(ViewLabel, ImageLimits)>,
    pub(super) instruction: InstructionRule,
    pub(super) encoding: Encoding,
    /// Where contexts stay that are handed over by reference.
    pub(super) shelf: Option<std::sync::Arc<Shelf>>,
    pub(super) model_hash: Digest,
}

/// A job that can be done: where it stands among the jobs, and what it asks.
struct Sound<'a> {
    at: usize,
    job: &'a ThinkJob,
    question: Question<'a>,
}

impl Think for Xr0Think {
    fn think(
        &mut self,
        jobs: &[ThinkJob],
        sink: &mut dyn ContextSink,
    ) -> Vec<Result<(), PolicyError>> {
        let mut results: Vec<Result<(), PolicyError>> = vec![Ok(()); jobs.len()];
        let mut sound = Vec::new();
        for ((at, job), result) in jobs.iter().enumerate().zip(&mut results) {
            match self.question(job) {
                Ok(question) => sound.push(Sound { at, job, question }),
                Err(error) => *result = Err(error),
            }
        }
        // As long as nothing was handed over, one that cannot be prepared fails alone.
        let batches: Vec<_> = match self.prepare(&sound) {
            Ok(prepared) => vec![(sound.as_slice(), Ok(prepared))],
            Err(error) if sound.len() == 1 => vec![(sound.as_slice(), Err(error))],
            Err(_) => {
                let alone = sound.chunks(1);
                alone.map(|one| (one, self.prepare(one))).collect()
            }
        };
        for (batch, prepared) in batches {
            let done = prepared.and_then(|prepared| self.contexts(batch, &prepared, sink));
            for one in batch {
                if let (Some(result), Err(error)) = (results.get_mut(one.at), &done) {
                    *result = Err(error.clone());
                }
            }
        }
        results
    }

    fn warm_up(&mut self) -> Result<(), PolicyError> {
        let images = self.views.iter().map(|(view, limits)| blank(view, *limits));
        let images = images.collect::<Result<Vec<_>, Error>>();
        let question = Question {
            images: images.map_err(open)?,
            instruction: self.instruction.apply("stand still"),
        };
        let prepared = self.prefill.prepare(&[&question]).map_err(open)?;
        let checked = self.prefill.run(&prepared, &mut |index, layer| {
            finite(&layer).map_err(|error| decide(format!("layer {index}: {error}")))
        });
        checked.map_err(open)?;
        let golden = self.self_test.as_ref();
        let tried = golden.map_or(Ok(()), |golden| self.prefill.try_golden(golden));
        tried.map_err(|error| PolicyError::Open(error.to_string()))
    }
}

fn open(error: impl std::fmt::Display) -> PolicyError {
    PolicyError::Open(format!("a decision about nothing failed: {error}"))
}

/// A black image of a view.
fn blank(view: &ViewLabel, limits: ImageLimits) -> Result<Seen<'_>, Error> {
    let (height, width) = BLANK;
    let image = RgbImage::new(height, width, vec![0; height * width * 3])?;
    Ok(Seen {
        label: view.label.as_str(),
        image: images::prepared(view, image),
        limits: Some(limits),
    })
}

/// Reads a layer back from its bytes, which refuses numbers that are not finite.
fn finite(layer: &KvLayer) -> Result<(), Error> {
    let form = layer.form(Encoding::Exact)?;
    let n_bytes = form.n_bytes();
    let mut bytes = vec![0; n_bytes.ok_or_else(|| Error::input("it is too large"))?];
    layer.write(Encoding::Exact, &mut bytes)?;
    KvLayer::read(&form, &bytes, &DeviceName::Cpu.open()?).map(drop)
}

impl Xr0Think {
    /// What a job asks: the observation's images with their labels, in the manifest's order.
    fn question<'a>(&'a self, job: &ThinkJob) -> Result<Question<'a>, PolicyError> {
        let seen = |(view, limits): &'a (ViewLabel, ImageLimits)| {
            Ok(Seen {
                label: view.label.as_str(),
                image: images::prepared(view, image_of(&job.observation, view)?),
                limits: Some(*limits),
            })
        };
        let images = self.views.iter().map(seen);
        Ok(Question {
            images: images.collect::<Result<_, PolicyError>>()?,
            instruction: self.instruction.apply(job.task.instruction.as_str()),
        })
    }

    fn prepare(&self, batch: &[Sound<'_>]) -> Result<Prepared, PolicyError> {
        let questions: Vec<_> = batch.iter().map(|sound| &sound.question).collect();
        self.prefill.prepare(&questions)
    }

    /// Hands over the heads, and then each layer of all jobs as it comes.
    fn contexts(
        &self,
        batch: &[Sound<'_>],
        prepared: &Prepared,
        sink: &mut dyn ContextSink,
    ) -> Result<(), PolicyError> {
        let mut places = Vec::with_capacity(batch.len());
        for (row, sound) in batch.iter().enumerate() {
            sink.head(sound.at, self.head(sound.job, &prepared.tokens, row)?);
            let shelf = self.shelf.as_ref();
            places.push(shelf.map(|shelf| shelf.begin(sound.job.request.id)));
        }
        self.prefill.run(prepared, &mut |index, layer| {
            for (row, (sound, place)) in batch.iter().zip(&places).enumerate() {
                let own = layer.of_prompt(row, prepared.tokens.len_of(row));
                let own = own.map_err(decide)?;
                self.hand_over(sound, (index, own), (*place, sink))?;
            }
            Ok(())
        })
    }

    /// One layer of one job, by reference or as bytes.
    fn hand_over(
        &self,
        sound: &Sound<'_>,
        (index, layer): (usize, KvLayer),
        (place, sink): (Option<Place>, &mut dyn ContextSink),
    ) -> Result<(), PolicyError> {
        let encoding = match &place {
            Some(_) => Encoding::Exact,
            None => self.encoding,
        };
        let form = layer.form(encoding).map_err(decide)?;
        let head = self.prefill.form.part(sound.job.request.id, index, &form)?;
        if let (Some(shelf), Some(place)) = (&self.shelf, place) {
            let handle = shelf.put(place, head.index, layer);
            let data = PartData::Handle(handle);
            sink.part(sound.at, ContextPart { head, data });
            return Ok(());
        }
        sink.write(sound.at, head, &mut |out| {
            layer.write(encoding, out).map_err(decide)
        })
    }

    fn head(
        &self,
        job: &ThinkJob,
        tokens: &Tokens,
        row: usize,
    ) -> Result<ContextHead, PolicyError> {
        let observed = &job.observation.head;
        let too_many = |_| decide("the prompt is too long");
        let n_tokens = tokens.len_of(row);
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
            p_end: tokens.p_end.get(row).copied().unwrap_or(0),
            // Padding stays behind: every token that is handed over is real.
            mask: to_bits(&vec![true; n_tokens]),
            n_tokens: u32::try_from(n_tokens).map_err(too_many)?,
            n_parts: u16::try_from(self.prefill.form.n_parts()).map_err(too_many)?,
            model_hash: self.model_hash.clone(),
            thinking: 0,
            thought_from_ns: 0,
            prepared_at_ns: 0,
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
