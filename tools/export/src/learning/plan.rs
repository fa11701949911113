//! The learning plan, `plan.toml`.
//!
//! All fields have defaults. With an empty plan, every convolution and fully connected layer learns by the default
//! rule.
//! ```toml
//! recipe = "adapt"       # other defaults, for adapting to shifted data: adapt, auto; see below
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
//! head = "lda"           # classifier head: softmax, nearest-mean, lda, least-squares, simplex, boosted; anomaly,
//!                        # regression; or a table:
//! seed = 1
//! [[layer]]              # other values for one layer
//! name = "conv_1"
//! rate = 0.5             # relative to the rate above
//! [head]
//! kind = "lda"
//! features = "last"      # the input of the last layer; "all": inputs of all layers but the first; "every": of every layer;
//!                        # or layer names
//! new_classes = 0        # number of classes to add that the network does not know
//! from = 0               # step at which the head starts to learn
//! fold = 64              # fold the features into so many sums with random signs, to save RAM; default: as they are,
//!                        # but 192 with features = "every" (anomaly: 64)
//! step = 1.0             # softmax, simplex, boosted: step size
//! shrinkage = 0.1        # lda, from 0 to 1; default: n / (n + 2k) for n features after k samples
//! window = 200.0         # lda, nearest-mean, anomaly: samples of a class after which older ones fade; default: never
//! ridge = 1.0            # least-squares, regression
//! forgetting = 1.0       # least-squares, regression
//! covariance = "full"    # anomaly: full, diagonal
//! false_alarms = 0.01    # anomaly: greatest fraction of normal samples that raise an alarm
//! scores = 256           # anomaly: scores of normal samples that the threshold rests on
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
//!
//! `recipe = "auto"` lets the network stay as it is: `layers = []`, an input normaliser, and an `lda` head on the inputs of
//! every layer, folded into 192 sums: the network's own input holds what its layers have thrown away, which classes that it
//! was not trained on need. With a limit of RAM (`--max-ram`, `--target`), both recipes give way to smaller forms until
//! they fit ([`LearningPlan::smaller`]): a network that stays, features that are folded, no input normaliser.

use offshoot::learn::LocalRule;
use serde::Deserialize;
use std::collections::HashMap;

use super::fields;
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
    Recipe { Adapt, Auto }
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
    HeadName { Softmax, NearestMean, Lda, LeastSquares, Simplex, Boosted, Anomaly, Regression }
}
names! {
    /// What an anomaly head keeps of the covariance.
    CovarianceName { Full, Diagonal }
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
    pub fold: Option<u16>,
    pub step: Option<f32>,
    pub shrinkage: Option<f32>,
    pub window: Option<f32>,
    pub ridge: Option<f32>,
    pub forgetting: Option<f32>,
    pub covariance: Option<CovarianceName>,
    pub false_alarms: Option<f32>,
    pub scores: Option<u16>,
}

impl HeadPlan {
    pub(super) fn new(kind: HeadName) -> Self {
        Self {
            kind,
            features: match kind {
                // A boosted head has a block for each layer.
                HeadName::Boosted => FeatureSpec::all(),
                // What a network's layers throw away may be what is not normal.
                HeadName::Anomaly => FeatureSpec::every(),
                _ => FeatureSpec::last(),
            },
            new_classes: 0,
            from: 0,
            fold: None,
            step: None,
            shrinkage: None,
            window: None,
            ridge: None,
            forgetting: None,
            covariance: None,
            false_alarms: None,
            scores: None,
        }
    }

    /// Number of sums that the features are folded into, if they are.
    pub(super) fn folded(&self) -> Option<u16> {
        let usual = self.features == FeatureSpec::every() && self.kind != HeadName::Boosted;
        let fold = if self.kind == HeadName::Anomaly { ANOMALY_FOLD } else { FOLD };
        self.fold.or(usual.then_some(fold))
    }
}

/// Layers whose inputs are features of the head.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum FeatureSpec {
    /// `last`, `all` or `every`.
    Word(FeatureName),
    /// These layers, by name.
    Named(Vec<String>),
}

names! {
    /// A set of layers.
    FeatureName { Last, All, Every }
}

impl FeatureSpec {
    fn last() -> Self {
        Self::Word(FeatureName::Last)
    }

    fn all() -> Self {
        Self::Word(FeatureName::All)
    }

    fn every() -> Self {
        Self::Word(FeatureName::Every)
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

/// Number of sums that the inputs of every layer are folded into if the plan does not say it. The covariance takes four bytes
/// times its square.
const FOLD: u16 = 192;

/// The same for an anomaly head, whose covariance takes two bytes times its square.
const ANOMALY_FOLD: u16 = 64;

/// Numbers of sums that features are folded into, for plans that must take less memory.
const FOLDS: [u16; 18] = [256, 224, FOLD, 160, 128, 112, 96, 88, 80, 72, 64, 60, 56, 48, 40, 32, 24, 16];

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
        // Fields in the file override the recipe.
        let keys: toml::Table = toml::from_str(text).map_err(wrong)?;
        fields::check(&keys)?;
        let said: Self = toml::from_str(text).map_err(wrong)?;
        Ok(said.with_recipe(&keys).alone(&keys))
    }

    /// What a head that learns no classes sets for what the file does not say: the network stays as it is.
    fn alone(mut self, keys: &toml::Table) -> Self {
        if !self.learns_normal() && !self.learns_targets() {
            return self;
        }
        if !keys.contains_key("layers") {
            self.layers = Some(Vec::new());
        }
        let says = keys.get("head").and_then(|head| head.get("features")).is_some();
        let every = self.learns_normal() && !says;
        if let Some(HeadSpec::With(head)) = self.head.as_mut().filter(|_| every) {
            head.features = FeatureSpec::every();
        }
        self
    }

    /// Whether the head learns real targets.
    pub fn learns_targets(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.plan().kind == HeadName::Regression)
    }

    /// Whether the head learns what is normal.
    pub fn learns_normal(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.plan().kind == HeadName::Anomaly)
    }

    /// Sets the recipe's defaults for what the file does not say.
    fn with_recipe(self, keys: &toml::Table) -> Self {
        let said = self;
        match said.recipe {
            None => return said,
            Some(Recipe::Adapt) => {}
            Some(Recipe::Auto) => return said.frozen(keys),
        }
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
        plan
    }

    /// The defaults of `recipe = "auto"`: the network stays as it is, but for statistics of its input, and a head learns on
    /// the inputs of every layer.
    fn frozen(self, keys: &toml::Table) -> Self {
        let says = |key: &str| keys.contains_key(key);
        let mut plan = self;
        if !says("layers") {
            plan.layers = Some(Vec::new());
        }
        if !says("normalizer") && !says("standard") {
            plan.normalizer = NormalizerSpec::Usual(true);
        }
        if !says("head") {
            let head = HeadPlan { features: FeatureSpec::every(), ..HeadPlan::new(HeadName::Lda) };
            plan.head = Some(HeadSpec::With(head));
        }
        plan
    }

    /// Plans that take less memory, from the best to the smallest, for a plan with a recipe: what the file says itself
    /// stays. Others have none.
    pub fn smaller(&self) -> Vec<Self> {
        if self.recipe.is_none() {
            return Vec::new();
        }
        let Some(head) = self.head.as_ref().map(HeadSpec::plan) else { return Vec::new() };
        let frozen = Self { layers: Some(Vec::new()), probes: HashMap::new(), ..self.clone() };
        let normalizer = match self.normalizer() {
            Some(_) => vec![frozen.normalizer.clone(), NormalizerSpec::Usual(false)],
            None => vec![NormalizerSpec::Usual(false)],
        };
        // A head on features that stay learns from the first step on, and statistics follow all the time.
        let with = |head: HeadPlan, normalizer: &NormalizerSpec| Self {
            head: Some(HeadSpec::With(HeadPlan { from: 0, ..head })),
            normalizer: normalizer.clone(),
            ..frozen.clone()
        };
        let mut all = Vec::new();
        if self.layers.as_ref().is_none_or(|layers| !layers.is_empty()) {
            all.extend(normalizer.iter().map(|n| with(head.clone(), n)));
        } else {
            all.extend(normalizer.iter().skip(1).map(|n| with(head.clone(), n)));
        }
        if head.kind == HeadName::Lda && head.fold.is_none() {
            let most = head.folded().unwrap_or(u16::MAX);
            for fold in FOLDS.into_iter().filter(|&fold| fold < most) {
                all.extend(normalizer.iter().map(|n| with(HeadPlan { fold: Some(fold), ..head.clone() }, n)));
            }
        }
        if head.kind == HeadName::Lda {
            let small = HeadPlan { fold: Some(32), shrinkage: None, kind: HeadName::NearestMean, ..head };
            all.push(with(small, &NormalizerSpec::Usual(false)));
        }
        all
    }

    /// What a plan with a recipe amounts to, in a few words.
    pub fn summary(&self) -> String {
        let layers = match &self.layers {
            Some(names) if names.is_empty() => "the network stays".to_owned(),
            Some(names) => format!("{} layers learn", names.len()),
            None => "all layers learn".to_owned(),
        };
        let statistics = if self.normalizer().is_some() { ", input statistics follow" } else { "" };
        let head = self.head.as_ref().map(HeadSpec::plan).map_or(String::new(), |head| {
            let kind = match head.kind {
                HeadName::Softmax => "softmax",
                HeadName::NearestMean => "nearest-mean",
                HeadName::Lda => "lda",
                HeadName::LeastSquares => "least-squares",
                HeadName::Simplex => "simplex",
                HeadName::Boosted => "boosted",
                HeadName::Anomaly => "anomaly",
                HeadName::Regression => "regression",
            };
            let fold = head.folded().map_or(String::new(), |n| format!(" folded into {n}"));
            format!(", head {kind} on features{fold}")
        });
        format!("{layers}{statistics}{head}")
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

    /// Whether any layer may learn.
    pub fn learns(&self) -> bool {
        self.layers.as_ref().is_none_or(|layers| !layers.is_empty())
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
        fields::ranges(self)
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
        let auto = LearningPlan::parse("recipe = \"auto\"").unwrap();
        assert_eq!((auto.layers.as_deref(), auto.normalizer().is_some()), (Some(&[][..]), true));
        let folds: Vec<_> =
            auto.smaller().iter().filter_map(|p| p.head.as_ref().unwrap().plan().fold).collect();
        assert!(folds.windows(2).all(|w| w[0] >= w[1] || w[1] == 32) && folds.len() > 20, "{folds:?}");
        assert!(LearningPlan::parse("").unwrap().smaller().is_empty());
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
    }
}
