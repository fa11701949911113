//! The learning plan, `plan.toml`.
//!
//! All fields have defaults. With an empty plan, every convolution and fully connected layer learns by the default
//! rule.
//! ```toml
//! recipe = "adapt"       # other defaults, for adapting to shifted data: see below
//! rate = 0.3             # learning rate
//! hidden_rate = 0.03     # rate of layers before the last, relative to `rate`
//! convolution_rate = 0.03 # the same for layers with more than one pixel; default: `hidden_rate`
//! normalised = true      # divide the rate by one plus the energy of the layer's input
//! schedule = "linear"    # constant, linear, cosine, inverse; over `steps`
//! steps = 1000
//! warm = 0               # steps over which the rates of layers before the last rise from 0
//! momentum = 0.0         # from 0 to below 1
//! noise = 0.0            # standard deviation of gradient noise, which falls with the root of the steps
//! layers = ["dense_1"]   # layers that learn: ONNX node names, or "last". Default: all. `[]`: the head alone
//! rule = "cross-entropy" # cross-entropy, squared, absolute, drtp
//! projection = "signs"   # target projection: signs, hadamard, uniform; head (a local head, float32 only);
//!                        # probe (trained on calibration samples); probe-head (a local head that starts as the probe;
//!                        # the probe itself in int8 layers)
//! scale = 0.1            # scale of scores or targets; default: one over the root of the number of features
//! grid = 4               # features are means over a pooling grid of 4 × 4
//! weights = "int8"       # int8 or int16: format of the trainable copy in int8 networks
//! part = "all"           # what learns of a layer: all, bias, scale, low-rank; see below
//! rank = 4               # rank of low-rank adaptors
//! blocks = true          # blocks of two layers with one rule; or the blocks: [["conv_1", "conv_2"]]
//! normalizer = true      # input normaliser; or a table: trust = 10.0 (samples), steps = 1000
//! head = "lda"           # classifier head: softmax, nearest-mean, lda, least-squares, simplex, boosted; or a table:
//! seed = 1
//! [[layer]]              # other values for one layer
//! name = "conv_1"
//! rate = 0.5             # relative to the rate above
//! [head]
//! kind = "lda"
//! features = "last"      # the input of the last layer; "all": inputs of all layers but the first; or layer names
//! new_classes = 0        # number of classes to add that the network does not know
//! from = 0               # step at which the head starts to learn
//! step = 1.0             # softmax, simplex, boosted: step size
//! shrinkage = 0.1        # lda, from 0 to 1; default: n / (n + 2k) for n features after k samples
//! window = 200.0         # lda, nearest-mean: samples of a class after which older ones fade; default: never
//! ridge = 1.0            # least-squares
//! forgetting = 1.0       # least-squares
//! ```
//! Parts:
//! - `bias`: biases only.
//! - `scale`: biases and one factor per output channel, `z = scale · (W x + bias)`. Batch normalisations are folded
//!   into the layers before them, so these are their parameters too. For a LayerNorm, its own scale and bias.
//! - `low-rank`: `z = W x + up (down x)`, of which `up` and `down` learn (LoRA, Hu et al. 2021, arXiv:2106.09685).
//!
//! With these three, the layer's weights stay in flash.
//!
//! `recipe = "adapt"` sets these defaults: `projection = "probe-head"`, `rate = 2.0`, `hidden_rate = 1.0`,
//! `convolution_rate = 0.15`, `schedule = "linear"` over `steps = 2000` (two epochs of 1,000 samples), `warm` half of
//! the steps, an input normaliser that follows the data for the first half, and an `lda` head on the inputs of all
//! layers but the first, which learns from the second half on.

use offshoot::learn::LocalRule;
use serde::Deserialize;
use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::probes::Probe;

/// A `plan.toml`. The module's documentation explains the fields.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct LearningPlan {
    pub recipe: Option<Recipe>,
    pub rate: f32,
    pub hidden_rate: f32,
    pub convolution_rate: Option<f32>,
    pub normalised: bool,
    pub schedule: ScheduleName,
    pub steps: u32,
    pub warm: u32,
    pub momentum: f32,
    pub noise: f32,
    pub layers: Option<Vec<String>>,
    pub rule: RuleName,
    #[serde(alias = "codes")]
    pub projection: TargetProjectionName,
    pub scale: Option<f32>,
    pub grid: u8,
    pub weights: Weights,
    pub part: PartName,
    pub rank: u8,
    pub blocks: Blocks,
    #[serde(alias = "standard")]
    pub normalizer: NormalizerSpec,
    pub head: Option<HeadSpec>,
    pub seed: u32,
    pub layer: Vec<LayerPlan>,
    /// Trained probes by the operator's position; empty before they are trained.
    #[serde(skip)]
    pub probes: HashMap<u16, Probe>,
    /// Statistics of calibration samples, if there are any.
    #[serde(skip)]
    pub statistics: Option<Statistics>,
}

/// Input statistics of the host's calibration samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Mean of each element of the input.
    pub mean: Vec<f32>,
    /// Mean of `|x - mean|²`.
    pub energy: f32,
}

/// Other values for one layer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct LayerPlan {
    pub name: String,
    pub rate: Option<f32>,
    pub rule: Option<RuleName>,
    #[serde(alias = "codes")]
    pub projection: Option<TargetProjectionName>,
    pub scale: Option<f32>,
    pub grid: Option<u8>,
    pub weights: Option<Weights>,
    pub part: Option<PartName>,
    pub rank: Option<u8>,
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($variant:ident),* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[allow(missing_docs)]
        pub enum $name { $($variant),* }
    };
}

names! {
    /// Defaults for many fields at once.
    Recipe { Adapt }
}
names! {
    /// How the rate falls.
    ScheduleName { Constant, Linear, Cosine, Inverse }
}
/// The rule by which a layer learns, by its name, with or without the prefix of its paper: `tpsgd-squared`, `squared`. Its scale is
/// the layer's.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct RuleName(pub LocalRule);

impl TryFrom<String> for RuleName {
    type Error = String;

    fn try_from(name: String) -> std::result::Result<Self, String> {
        let short = |rule: LocalRule| rule.name().trim_start_matches("tpsgd-");
        LocalRule::ALL
            .into_iter()
            .find(|&rule| name == rule.name() || name == short(rule))
            .map(Self)
            .ok_or_else(|| {
                format!("unknown rule `{name}`, expected one of {}", LocalRule::ALL.map(short).join(", "))
            })
    }
}

names! {
    /// Target projection of a layer.
    TargetProjectionName { Signs, Hadamard, Uniform, Head, Probe, ProbeHead }
}
names! {
    /// Format of an int8 layer's trainable copy.
    Weights { Int8, Int16 }
}
names! {
    /// The part of a layer that learns.
    PartName { All, Bias, Scale, LowRank }
}
names! {
    /// Kind of classifier head.
    HeadName { Softmax, NearestMean, Lda, LeastSquares, Simplex, Boosted }
}

/// Blocks of two layers with one rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Blocks {
    /// All pairs that can be a block, or none.
    All(bool),
    /// These pairs, by name.
    Named(Vec<[String; 2]>),
}

/// Input normaliser.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum NormalizerSpec {
    /// With the defaults, or none.
    Usual(bool),
    /// With these parameters.
    With(NormalizerPlan),
}

/// Parameters of the input normaliser.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NormalizerPlan {
    /// Number of samples that the host's statistics count as.
    pub trust: f32,
    /// Number of steps in which the statistics follow the data; 0 for all steps.
    pub steps: u32,
}

impl Default for NormalizerPlan {
    fn default() -> Self {
        Self { trust: 10.0, steps: 0 }
    }
}

/// Classifier head.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum HeadSpec {
    /// A kind with its defaults.
    Name(HeadName),
    /// With these parameters.
    With(HeadPlan),
}

impl HeadSpec {
    pub(super) fn plan(&self) -> HeadPlan {
        match self {
            Self::Name(kind) => HeadPlan::new(*kind),
            Self::With(plan) => plan.clone(),
        }
    }
}

/// Parameters of a classifier head. The module's documentation explains the fields.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct HeadPlan {
    pub kind: HeadName,
    #[serde(default = "FeatureSpec::last")]
    pub features: FeatureSpec,
    #[serde(default)]
    pub new_classes: u16,
    #[serde(default)]
    pub from: u32,
    pub step: Option<f32>,
    pub shrinkage: Option<f32>,
    pub window: Option<f32>,
    pub ridge: Option<f32>,
    pub forgetting: Option<f32>,
}

impl HeadPlan {
    pub(super) fn new(kind: HeadName) -> Self {
        Self {
            kind,
            // A boosted head has a block for each layer.
            features: if kind == HeadName::Boosted { FeatureSpec::all() } else { FeatureSpec::last() },
            new_classes: 0,
            from: 0,
            step: None,
            shrinkage: None,
            window: None,
            ridge: None,
            forgetting: None,
        }
    }
}

/// Layers whose inputs are features of the head.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum FeatureSpec {
    /// `last` or `all`.
    Word(FeatureName),
    /// These layers, by name.
    Named(Vec<String>),
}

names! {
    /// A set of layers.
    FeatureName { Last, All }
}

impl FeatureSpec {
    fn last() -> Self {
        Self::Word(FeatureName::Last)
    }

    fn all() -> Self {
        Self::Word(FeatureName::All)
    }
}

impl Default for LearningPlan {
    fn default() -> Self {
        Self {
            recipe: None,
            rate: 0.3,
            hidden_rate: 0.03,
            convolution_rate: None,
            normalised: true,
            schedule: ScheduleName::Constant,
            steps: 1000,
            warm: 0,
            momentum: 0.0,
            noise: 0.0,
            layers: None,
            rule: RuleName(LocalRule::ALL[0]),
            projection: TargetProjectionName::Signs,
            scale: None,
            grid: 4,
            weights: Weights::Int16,
            part: PartName::All,
            rank: 4,
            blocks: Blocks::All(false),
            normalizer: NormalizerSpec::Usual(false),
            head: None,
            seed: 1,
            layer: Vec::new(),
            probes: HashMap::new(),
            statistics: None,
        }
    }
}

/// Keys that had another name, which is still read: former and present name. The fields have the same aliases.
const FORMER_KEYS: [(&str, &str); 2] = [("codes", "projection"), ("standard", "normalizer")];

/// Name in `layers` for the layer that computes the scores of the classes.
pub const LAST: &str = "last";

impl LearningPlan {
    /// Reads a `plan.toml`.
    ///
    /// # Errors
    /// [`Error::Learning`] with the line and the reason.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |e: toml::de::Error| Error::Learning(e.to_string().trim().to_owned());
        let said: Self = toml::from_str(text).map_err(wrong)?;
        let Some(Recipe::Adapt) = said.recipe else { return Ok(said) };
        // Fields in the file override the recipe.
        let keys: toml::Table = toml::from_str(text).map_err(wrong)?;
        let steps = if keys.contains_key("steps") { said.steps } else { 2000 };
        let half = steps / 2;
        let mut plan = said.clone();
        let mut set = |key: &str, apply: &mut dyn FnMut(&mut Self)| {
            let former = FORMER_KEYS
                .iter()
                .find(|(_, now)| *now == key)
                .is_some_and(|(was, _)| keys.contains_key(*was));
            if !keys.contains_key(key) && !former {
                apply(&mut plan);
            }
        };
        set("steps", &mut |p| p.steps = steps);
        set("rate", &mut |p| p.rate = 2.0);
        set("hidden_rate", &mut |p| p.hidden_rate = 1.0);
        // Chosen on the shipped models. It is lower since all pixels contribute to a convolution's weight.
        set("convolution_rate", &mut |p| p.convolution_rate = Some(0.15));
        set("schedule", &mut |p| p.schedule = ScheduleName::Linear);
        set("warm", &mut |p| p.warm = half);
        set("projection", &mut |p| p.projection = TargetProjectionName::ProbeHead);
        set("normalizer", &mut |p| {
            p.normalizer = NormalizerSpec::With(NormalizerPlan { steps: half, ..NormalizerPlan::default() });
        });
        set("head", &mut |p| {
            let head = HeadPlan { features: FeatureSpec::all(), from: half, ..HeadPlan::new(HeadName::Lda) };
            p.head = Some(HeadSpec::With(head));
        });
        Ok(plan)
    }

    /// Whether the layer with this name learns; `last` says whether it is the last one.
    pub fn wants(&self, name: &str, last: bool) -> bool {
        let named = |n: &String| n == name || last && n == LAST;
        self.layers.as_ref().is_none_or(|names| names.iter().any(named))
    }

    /// Values for the layer with this name that differ from the plan's.
    pub fn of_layer(&self, name: &str) -> LayerPlan {
        self.layer.iter().find(|l| l.name == name).cloned().unwrap_or_default()
    }

    /// The part of the layer with this name that learns.
    pub fn part_of(&self, name: &str) -> PartName {
        self.of_layer(name).part.unwrap_or(self.part)
    }

    /// Whether any layer learns from a probe.
    pub fn wants_probes(&self) -> bool {
        let is_probe =
            |projection| matches!(projection, TargetProjectionName::Probe | TargetProjectionName::ProbeHead);
        is_probe(self.projection) || self.layer.iter().filter_map(|l| l.projection).any(is_probe)
    }

    /// Parameters of the input normaliser, if there is one.
    pub fn normalizer(&self) -> Option<NormalizerPlan> {
        match self.normalizer {
            NormalizerSpec::Usual(wanted) => wanted.then(NormalizerPlan::default),
            NormalizerSpec::With(plan) => Some(plan),
        }
    }

    /// Checks that numbers are within their ranges.
    pub(super) fn check(&self) -> Result<()> {
        let own = self.layer.iter().filter_map(|l| l.rate);
        let rates = own.chain([self.rate, self.hidden_rate]).chain(self.convolution_rate);
        if let Some(rate) = rates.into_iter().find(|r| !r.is_finite() || *r < 0.0) {
            return Err(Error::Learning(format!("a rate is {rate}, but rates must be 0 or more")));
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(Error::Learning(format!(
                "`momentum` is {}, but must be 0 or more and below 1",
                self.momentum
            )));
        }
        if !self.noise.is_finite() || self.noise < 0.0 {
            return Err(Error::Learning(format!("`noise` is {}, but must be 0 or more", self.noise)));
        }
        if let Some(rank) =
            self.layer.iter().filter_map(|l| l.rank).chain([self.rank]).find(|r| !(1..=64).contains(r))
        {
            return Err(Error::Learning(format!(
                "the `rank` of an adaptor is {rank}, but must be from 1 to 64"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_gives_way_to_what_is_said() {
        let plan = LearningPlan::parse("recipe = \"adapt\"\nsteps = 400\nrate = 0.5").unwrap();
        assert_eq!((plan.rate, plan.hidden_rate, plan.warm), (0.5, 1.0, 200));
        assert_eq!(plan.normalizer().unwrap().steps, 200);
        assert_eq!(plan.head.unwrap().plan().from, 200);
        assert!(LearningPlan::parse("recipe = \"cook\"").is_err());
        assert_eq!(LearningPlan::parse("").unwrap(), LearningPlan::default());
    }

    #[test]
    fn words_and_tables_mean_the_same() {
        let of = |text: &str| LearningPlan::parse(text).unwrap().head.unwrap().plan();
        assert_eq!(of("head = \"lda\""), of("[head]\nkind = \"lda\""));
        assert_eq!(
            of("[head]\nkind = \"lda\"\nfeatures = [\"a\"]").features,
            FeatureSpec::Named(vec!["a".into()])
        );
        assert!(LearningPlan::parse("[head]\nkind = \"lda\"\nspeed = 3").is_err());
        assert!(LearningPlan::parse("head = \"oracle\"").is_err());
        let plan = LearningPlan::parse("blocks = [[\"a\", \"b\"]]\nstandard = true").unwrap();
        assert_eq!(plan.blocks, Blocks::Named(vec![["a".into(), "b".into()]]));
        assert_eq!(plan.normalizer().unwrap().trust, 10.0);
        for wrong in ["momentum = 1.0", "noise = -1.0", "rank = 0"] {
            assert!(LearningPlan::parse(wrong).unwrap().check().is_err(), "{wrong}");
        }
    }
}
