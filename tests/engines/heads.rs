//! Heads without a network: levels are drawn as often as the definition says, tails included, and
//! likelihoods are those of the definition.

use pixelcnn::internals::head::{Draw, Head};
use pixelcnn::internals::sampling::random::{Noise, PixelNoise};

/// Standard deviations of χ² above its mean that are still chance: the chance is below 1e-5 for the many degrees of freedom
/// here, and the noise is fixed.
const CHANCE: f64 = 5.0;

/// Noise of draw number `i`: pixels of many images.
fn noise(i: u64) -> PixelNoise {
    Noise::new(25, i / 64).at((i % 64) as usize)
}

/// `exp(z)`, each divided by their sum: the definition, for logits of moderate size.
fn softmax(logits: &[f64]) -> Vec<f64> {
    let total: f64 = logits.iter().map(|z| z.exp()).sum();
    logits.iter().map(|z| z.exp() / total).collect()
}

fn double(logits: &[f32]) -> Vec<f64> {
    logits.iter().map(|z| f64::from(*z)).collect()
}

/// The number of draws of each level of channel 0.
fn counts(head: &Head, parameters: &[f32], draws: u64, how: &Draw) -> Vec<u64> {
    let mut counts = vec![0; head.levels()];
    let mut levels = vec![0; head.channels()];
    for i in 0..draws {
        head.draw(0, parameters, noise(i), how, &mut levels, &mut []);
        counts[usize::from(levels[0])] += 1;
    }
    counts
}

/// The distance of χ² above its mean, in standard deviations; infinite if an impossible level is drawn.
fn deviation(counts: &[u64], probabilities: &[f64]) -> f64 {
    let draws = counts.iter().sum::<u64>() as f64;
    let (mut chi, mut bins) = (0.0, 0.0);
    for (&count, p) in counts.iter().zip(probabilities) {
        match *p > 0.0 {
            true => {
                assert!(p * draws >= 10.0, "too few draws for a probability of {p}");
                chi += (count as f64 - p * draws).powi(2) / (p * draws);
                bins += 1.0;
            }
            false if count > 0 => return f64::INFINITY,
            false => {}
        }
    }
    let freedom: f64 = bins - 1.0;
    if freedom == 0.0 { 0.0 } else { (chi - freedom) / (2.0 * freedom).sqrt() }
}

/// Logits with levels of e⁻¹² and less, of the likeliest.
const TAILS: [f32; 6] = [-12.0, 0.0, -3.0, -12.25, -0.5, -12.0];

#[test]
fn levels_of_a_softmax_come_as_often_as_they_should() {
    let head = Head::softmax(1, TAILS.len(), false);
    let counts = counts(&head, &TAILS, 1 << 23, &Draw::default());
    let exact = softmax(&double(&TAILS));
    assert!(deviation(&counts, &exact) < CHANCE, "{counts:?}");
    // The result with clamped noise.
    let mut halved = exact.clone();
    for level in [0, 3, 5] {
        halved[level] /= 2.0;
    }
    assert!(deviation(&counts, &halved) > CHANCE, "a tail of half the weight is not noticed");
    let mut probabilities = Vec::new();
    head.probabilities(&TAILS, 0, &[], &mut probabilities);
    let error = probabilities.iter().zip(&exact).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
    assert!(error < 1e-12, "{probabilities:?}");
}

#[test]
fn levels_of_a_bernoulli_come_as_often_as_they_should() {
    let head = Head::bernoulli(1, false);
    for (logit, draws) in [(-12.0, 1 << 22), (12.0, 1 << 22), (0.7, 1 << 18)] {
        let counts = counts(&head, &[logit], draws, &Draw::default());
        let exact = softmax(&[0.0, f64::from(logit)]);
        assert!(deviation(&counts, &exact) < CHANCE, "{logit}: {counts:?}");
        let twin = softmax(&[0.0, f64::from(logit) * 0.9]);
        assert!(deviation(&counts, &twin) > CHANCE, "{logit}: a logit that is off is not noticed");
        let mut probabilities = Vec::new();
        head.probabilities(&[logit], 0, &[], &mut probabilities);
        assert!((probabilities[1] / exact[1] - 1.0).abs() < 1e-12, "{probabilities:?}");
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-15);
    }
}

/// Joint draws of two channels; in steps, the parameters of the second depend on the level of the first.
#[test]
fn channels_are_drawn_together() {
    let of_first = [0.3_f32, -1.0, 1.0];
    let of_second = [[0.0_f32, 1.0, -2.0], [1.5, 0.0, 0.5], [-1.0, -0.5, 2.0]];
    for in_steps in [false, true] {
        let head = Head::softmax(2, 3, in_steps);
        let (mut counts, mut information, mut squares) = (vec![0; 9], 0.0, 0.0);
        let draws = 1 << 20;
        for i in 0..draws {
            let mut levels = [u16::MAX; 2];
            // Not known yet, so that it would be noticed.
            let mut parameters = [&of_first[..], &[f32::NAN; 3]].concat();
            for step in 0..head.steps() {
                let row = if in_steps { usize::from(levels[0]) } else { 0 };
                if step + 1 == head.steps() {
                    parameters[3..].copy_from_slice(&of_second[row.min(2)]);
                }
                head.draw(step, &parameters, noise(i), &Draw::default(), &mut levels, &mut []);
                assert_eq!(levels[1] == u16::MAX, step + 1 < head.steps());
            }
            counts[usize::from(levels[0]) * 3 + usize::from(levels[1])] += 1;
            let told = -head.log_likelihood(&parameters, &levels);
            information += told;
            squares += told * told;
        }
        let first = softmax(&double(&of_first));
        let rows = |a: usize| softmax(&double(&of_second[if in_steps { a } else { 0 }]));
        let joint: Vec<_> = (0..9).map(|i| first[i / 3] * rows(i / 3)[i % 3]).collect();
        assert!(deviation(&counts, &joint) < CHANCE, "{counts:?}");
        let twin: Vec<_> = (0..9).map(|i| first[i / 3] * rows(2 - i / 3)[i % 3]).collect();
        assert!(!in_steps || deviation(&counts, &twin) > CHANCE, "the condition is not noticed");
        // The mean information of the draws is the entropy.
        let entropy = -joint.iter().map(|p| p * p.ln()).sum::<f64>();
        let mean = information / draws as f64;
        let error = ((squares / draws as f64 - mean * mean) / draws as f64).sqrt();
        assert!((mean - entropy).abs() < CHANCE * error, "{mean} nats, expected {entropy} ± {error}");
        assert!((mean - 1.02 * entropy).abs() > CHANCE * error);
    }
}

/// The definition: at a temperature, without levels less likely than `min_p` of the likeliest, and without
/// levels less likely than the `k`-th.
fn restricted(logits: &[f64], how: &Draw) -> Vec<f64> {
    let mut p = softmax(&logits.iter().map(|z| z / f64::from(how.temperature)).collect::<Vec<_>>());
    let mut sorted = p.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let least = if how.top_k > 0 { sorted[(how.top_k - 1).min(p.len() - 1)] } else { 0.0 };
    let least = least.max(f64::from(how.min_p) * sorted[0]);
    // Equal ones are equal but for rounding.
    p.iter_mut().filter(|p| **p < least * (1.0 - 1e-9)).for_each(|p| *p = 0.0);
    let total: f64 = p.iter().sum();
    p.iter().map(|p| p / total).collect()
}

#[test]
fn draws_are_restricted_as_their_definitions_say() {
    // Two are equally likely.
    let logits = [1.0, -0.5, 2.0, -2.0, 1.0, 0.25, -2.5];
    let plain = Draw::default();
    let ways = [
        Draw { temperature: 0.5, ..plain },
        Draw { temperature: 2.0, ..plain },
        Draw { min_p: 0.15, ..plain },
        Draw { min_p: 0.15, temperature: 2.0, ..plain },
        Draw { top_k: 1, ..plain },
        Draw { top_k: 2, ..plain },
        Draw { top_k: 4, ..plain },
        Draw { top_k: 7, ..plain },
        Draw { top_k: 4, min_p: 0.3, temperature: 1.5, ..plain },
    ];
    let head = Head::softmax(1, logits.len(), false);
    let draws = 1 << 18;
    let mut told_apart = 0;
    for how in ways {
        let counts = counts(&head, &logits, draws, &how);
        let exact = restricted(&double(&logits), &how);
        assert!(deviation(&counts, &exact) < CHANCE, "{how:?}: {counts:?}, expected {exact:?}");
        for other in ways {
            let wrong = restricted(&double(&logits), &other);
            if wrong != exact {
                assert!(deviation(&counts, &wrong) > CHANCE, "{how:?} is drawn like {other:?}");
                told_apart += 1;
            }
        }
    }
    assert!(told_apart > 60, "{told_apart}");
    let likeliest = counts(&head, &logits, 1000, &Draw { temperature: 0.0, ..plain });
    assert_eq!(likeliest, [0, 0, 1000, 0, 0, 0, 0]);
}

#[test]
fn bernoulli_draws_are_restricted_as_their_definitions_say() {
    let head = Head::bernoulli(1, false);
    let plain = Draw::default();
    for (logit, how) in [
        (-1.0, Draw { temperature: 0.5, ..plain }),
        (-1.0, Draw { temperature: 3.0, ..plain }),
        (1.0, Draw { min_p: 0.3, ..plain }),
        (1.0, Draw { min_p: 0.5, ..plain }),
        (1.0, Draw { min_p: 0.5, temperature: 2.0, ..plain }),
        (1.0, Draw { top_k: 1, ..plain }),
        (1.0, Draw { top_k: 2, ..plain }),
    ] {
        let counts = counts(&head, &[logit], 1 << 18, &how);
        let exact = restricted(&[0.0, f64::from(logit)], &how);
        assert!(deviation(&counts, &exact) < CHANCE, "{how:?}: {counts:?}, expected {exact:?}");
        let unrestricted = softmax(&[0.0, f64::from(logit)]);
        let differs = (exact[0] - unrestricted[0]).abs() > 1e-9;
        assert_eq!(deviation(&counts, &unrestricted) > CHANCE, differs, "{how:?}");
    }
    assert_eq!(counts(&head, &[-0.1], 1000, &Draw { temperature: 0.0, ..plain }), [1000, 0]);
}

/// More than 4096 levels take 53 bits, of two words a channel; fewer take one word. Equal levels show which: their level is
/// `⌊u · L⌋`.
#[test]
fn many_levels_take_two_words() {
    let words = |i, number| u64::from(noise(i).word(number));
    for (levels, is_many) in [(4096, false), (8192, true), (65_536, true)] {
        let head = Head::softmax(3, levels, false);
        let parameters = vec![0.5; 3 * levels];
        let mut low_bits_count = false;
        for i in 0..40 {
            let mut drawn = [0; 3];
            head.draw(0, &parameters, noise(i), &Draw::default(), &mut drawn, &mut []);
            for (channel, level) in drawn.into_iter().enumerate() {
                let u = match is_many {
                    false => (words(i, channel) as f64 + 0.5) / 2_f64.powi(32),
                    true => {
                        let bits = words(i, 2 * channel) << 21 | words(i, 2 * channel + 1) >> 11;
                        (bits as f64 + 0.5) / 2_f64.powi(53)
                    }
                };
                assert_eq!(usize::from(level), (u * levels as f64) as usize, "{levels} levels");
                low_bits_count |= words(i, channel) >> 16 != words(i, 2 * channel) >> 16;
            }
        }
        assert!(low_bits_count, "the words are the same");
    }
}

/// Levels of probability 1/65 536 each are drawn evenly: χ² over all levels.
#[test]
fn codes_are_drawn_evenly() {
    let levels = 5000;
    let logits: Vec<f32> = (0..levels).map(|i| if i % 2 == 0 { 0.0 } else { -1.0 }).collect();
    let head = Head::softmax(1, levels, false);
    let counts = counts(&head, &logits, 1 << 16, &Draw::default());
    // In 50 groups, in the order of levels, even and odd ones apart.
    let group = |i: usize| i / 200 * 2 + i % 2;
    let (mut seen, mut expected) = (vec![0; 50], vec![0.0; 50]);
    for (i, p) in softmax(&double(&logits)).into_iter().enumerate() {
        seen[group(i)] += counts[i];
        expected[group(i)] += p;
    }
    assert!(deviation(&seen, &expected) < CHANCE);
    expected.reverse();
    assert!(deviation(&seen, &expected) > CHANCE);
}

#[test]
fn likelihoods_are_those_of_the_definition() {
    let head = Head::softmax(2, 3, false);
    let parameters = [0.5, -30.0, 2.0, 7.0, 6.5, -1.0];
    for levels in [[0, 0], [1, 2], [2, 1]] {
        let of = |channel: usize| {
            softmax(&double(&parameters[3 * channel..][..3]))[usize::from(levels[channel])].ln()
        };
        let (told, fast) =
            (head.log_likelihood(&parameters, &levels), head.fast_log_likelihood(&parameters, &levels));
        assert!((told - of(0) - of(1)).abs() < 1e-12 * told.abs(), "{levels:?}: {told}");
        assert_eq!(told, fast);
    }
    // Logits that exponentials do not bear.
    let told = head.log_likelihood(&[1e5, 0.0, 1e5, -1e30, 0.0, -1e30], &[1, 1]);
    assert!((told + 1e5 + 2_f64.ln()).abs() < 1e-9, "{told}");

    let head = Head::bernoulli(3, true);
    let logits: [f32; 3] = [0.7, -20.0, 3.0];
    for levels in [[0, 0, 0], [1, 1, 0], [0, 1, 1]] {
        let of = |(z, level): (&f32, &u16)| {
            let of_one = 1.0 / (1.0 + (-f64::from(*z)).exp());
            if *level == 1 { of_one.ln() } else { (-of_one).ln_1p() }
        };
        let expected: f64 = logits.iter().zip(&levels).map(of).sum();
        let told = head.log_likelihood(&logits, &levels);
        assert!(
            (told - expected).abs() < 1e-12 * expected.abs(),
            "{levels:?}: {told}, expected {expected}"
        );
        let swapped = levels.map(|level| 1 - level);
        assert!((head.log_likelihood(&logits, &swapped) - expected).abs() > 1.0);
    }
    let told = head.log_likelihood(&[1e30, -1e30, 0.0], &[0, 1, 0]);
    assert!((told / -2e30 - 1.0).abs() < 1e-6, "{told}");
}

/// The levels of a mixture of logistics, by the distribution functions of its components.
#[test]
fn probabilities_of_a_mixture_are_those_of_its_definition() {
    let head = Head::logistic_mixture(3, 2);
    // Logits; for each channel means, logarithms of scales, coefficients.
    let parameters: [f32; 20] = [
        0.4, -0.3, -0.2, 0.5, -2.0, -3.0, 0.3, -0.8, 0.1, -0.6, -1.0, -2.5, 0.2, 0.9, 0.0, 0.7, -3.0, -1.5,
        -0.4, 0.5,
    ];
    let at = |kind: usize, i: usize| f64::from(parameters[kind * 2 + i]);
    let value = |level: u16| (f64::from(level) - 127.5) / 127.5;
    for before in [&[][..], &[90][..], &[90, 200][..]] {
        let channel = before.len();
        // The mass of a level of a channel, of a component.
        let mass = |i: usize, c: usize, level: u16| {
            let coefficient = |k: usize| at(1 + 3 * k + 2, i).tanh();
            let mean = at(1 + 3 * c, i)
                + match c {
                    1 => coefficient(0) * value(before[0]),
                    2 => coefficient(1) * value(before[0]) + coefficient(2) * value(before[1]),
                    _ => 0.0,
                };
            let below = |edge: f64| 1.0 / (1.0 + (-(edge - mean) / at(2 + 3 * c, i).exp()).exp());
            let low = if level == 0 { 0.0 } else { below(value(level) - 1.0 / 255.0) };
            let high = if level == 255 { 1.0 } else { below(value(level) + 1.0 / 255.0) };
            high - low
        };
        let weights =
            [0, 1].map(|i| at(0, i).exp() * (0..channel).map(|c| mass(i, c, before[c])).product::<f64>());
        let total: f64 = weights.iter().sum();
        let mut probabilities = Vec::new();
        head.probabilities(&parameters, channel, before, &mut probabilities);
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        for level in 0..=255 {
            let expected: f64 = (0..2).map(|i| weights[i] / total * mass(i, channel, level)).sum();
            let got = probabilities[usize::from(level)];
            // Masses below 1e-5 are computed from the density in their middle.
            assert!(
                (got - expected).abs() < 1e-6,
                "after {before:?}, level {level}: {got}, expected {expected}"
            );
        }
    }
}
