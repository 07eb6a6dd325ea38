//! Activations, by their definitions.

/// A function of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x`
    Raw,
    /// `max(x, 0)`
    Relu,
    /// `x` where positive, `slope · x` elsewhere.
    LeakyRelu(f32),
    /// `x` where positive, `exp(x) − 1` elsewhere.
    Elu,
    /// `elu([x, −x])`: doubles the channels.
    ConcatElu,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + exp(−x))`
    Sigmoid,
    /// `x · sigmoid(x)`
    Silu,
    /// `x · Φ(x)`, Φ the normal distribution.
    Gelu,
    /// Its approximation `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`.
    GeluTanh,
    /// `ln(1 + exp(x))`
    Softplus,
    /// `exp(x)`
    Exp,
}

impl Activation {
    /// All activations; the one with a slope has an example value.
    pub const ALL: [Self; 12] = [
        Self::Raw,
        Self::Relu,
        Self::LeakyRelu(0.2),
        Self::Elu,
        Self::ConcatElu,
        Self::Tanh,
        Self::Sigmoid,
        Self::Silu,
        Self::Gelu,
        Self::GeluTanh,
        Self::Softplus,
        Self::Exp,
    ];

    /// Channels per channel of its argument.
    pub fn groups(self) -> usize {
        if self == Self::ConcatElu { 2 } else { 1 }
    }

    /// The name in a model file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Relu => "relu",
            Self::LeakyRelu(_) => "leaky_relu",
            Self::Elu => "elu",
            Self::ConcatElu => "concat_elu",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
            Self::Silu => "silu",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::Softplus => "softplus",
            Self::Exp => "exp",
        }
    }
}
