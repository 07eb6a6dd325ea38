//! Sampling importance resampling: candidates are drawn and weighted, and one is chosen by the weights.
//!
//! Raster order does not see the known pixels that come after an unknown one. Candidates weighted by the
//! likelihood of these pixels follow, in the limit of many, the distribution of the unknown given all that
//! is known.

/// The index of the candidate that a uniform number in (0, 1) selects, from the logarithms of the weights.
///
/// # Panics
/// If there are no candidates.
pub fn choose(log_weights: &[f64], uniform: f64) -> usize {
    let weights = relative(log_weights);
    let mut rest = uniform * weights.iter().sum::<f64>();
    let passes = |weight: &f64| {
        rest -= weight;
        rest < 0.0
    };
    // Past the end by rounding alone; the likeliest is never wrong.
    weights.iter().position(passes).unwrap_or_else(|| {
        (0..weights.len()).max_by(|&a, &b| weights[a].total_cmp(&weights[b])).expect("there are candidates")
    })
}

/// Effective sample size, the number of equally weighted candidates with the same variance: (Σw)² / Σw²,
/// from 1 to their number.
pub fn effective_sample_size(log_weights: &[f64]) -> f64 {
    let weights = relative(log_weights);
    weights.iter().sum::<f64>().powi(2) / weights.iter().map(|w| w * w).sum::<f64>()
}

/// Weights relative to the largest.
fn relative(log_weights: &[f64]) -> Vec<f64> {
    let largest = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    log_weights.iter().map(|w| (w - largest).exp()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_decide() {
        let weights = [0.5_f64.ln(), 0.25_f64.ln(), 0.25_f64.ln()].map(|w| w - 1000.0);
        let chosen = [0.01, 0.49, 0.51, 0.74, 0.76, 0.999_999].map(|u| choose(&weights, u));
        assert_eq!(chosen, [0, 0, 1, 1, 2, 2]);
        assert_eq!(choose(&[3.0], 0.5), 0);
        assert_eq!(choose(&[-1e9, 0.0, -1e9], 1.0), 1);
    }

    #[test]
    fn the_effective_sample_size_is_its_formula() {
        let close = |log_weights: &[f64], expected: f64| {
            let got = effective_sample_size(log_weights);
            assert!((got - expected).abs() < 1e-9, "{got}, expected {expected}");
        };
        close(&[-7.0; 5], 5.0);
        close(&[0.0, -1e6], 1.0);
        // Weights 1, 2, 3: 36 / 14.
        close(&[1.0_f64.ln(), 2.0_f64.ln(), 3.0_f64.ln()], 36.0 / 14.0);
    }
}
