use super::*;

/// A draw from these logits has probabilities 0.4, 0.3, 0.2 and 0.1.
fn four() -> Vec<f32> {
    [0.4f32, 0.3, 0.2, 0.1].map(f32::ln).to_vec()
}

fn seeded() -> SamplingParams {
    SamplingParams {
        seed: Some(7),
        ..SamplingParams::default()
    }
}

fn sample(params: &SamplingParams, prompt: &[u32], logits: &[f32]) -> Result<u32, InvalidLogits> {
    Sampler::new(params.clone(), prompt).sample(logits, &mut Scratch::default())
}

/// How often each token comes in many draws.
fn frequencies(params: &SamplingParams, logits: &[f32]) -> Vec<f64> {
    let num_draws = 20_000;
    let mut sampler = Sampler::new(params.clone(), &[]);
    let mut scratch = Scratch::default();
    let mut counts = vec![0.0; logits.len()];
    for _ in 0..num_draws {
        counts[sampler.sample(logits, &mut scratch).unwrap() as usize] +=
            1.0 / f64::from(num_draws);
    }
    counts
}

/// Four standard deviations of a frequency in 20,000 draws are below 0.015.
fn assert_close(frequencies: &[f64], expected: &[f64]) {
    for (frequency, expected) in frequencies.iter().zip(expected) {
        let is_impossible = *expected == 0.0;
        assert!((frequency - expected).abs() < 0.015, "{frequencies:?}");
        assert!(!is_impossible || *frequency == 0.0, "{frequencies:?}");
    }
}

/// Pseudo-random logits, many of them equal.
fn scattered(num: u32) -> Vec<f32> {
    (0..num)
        .map(|id| (id.wrapping_mul(2_654_435_761) >> 22) as f32 / 100.0)
        .collect()
}

#[test]
fn draws_follow_the_softmax_of_the_logits() {
    assert_close(&frequencies(&seeded(), &four()), &[0.4, 0.3, 0.2, 0.1]);
}

#[test]
fn temperature_divides_the_logits() {
    let params = SamplingParams {
        temperature: 0.5,
        ..seeded()
    };
    let squares = [0.16 / 0.3, 0.09 / 0.3, 0.04 / 0.3, 0.01 / 0.3];
    assert_close(&frequencies(&params, &four()), &squares);
}

#[test]
fn a_temperature_close_to_zero_takes_the_largest() {
    let params = SamplingParams {
        temperature: f32::MIN_POSITIVE,
        ..seeded()
    };
    assert_close(&frequencies(&params, &four()), &[1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn temperature_zero_takes_the_largest_and_of_equals_the_lowest_id() {
    let params = SamplingParams::greedy();
    assert_eq!(sample(&params, &[], &[1.0, 3.0, 2.0, 3.0]), Ok(1));
    assert_eq!(sample(&params, &[], &[f32::NEG_INFINITY, -3.0]), Ok(1));
}

#[test]
fn top_k_keeps_exactly_k() {
    let params = |k| SamplingParams {
        top_k: Some(k),
        ..seeded()
    };
    let two = [0.4 / 0.7, 0.3 / 0.7, 0.0, 0.0];
    assert_close(&frequencies(&params(2), &four()), &two);
    assert_close(&frequencies(&params(2), &[1.0; 4]), &[0.5, 0.5, 0.0, 0.0]);
    assert_close(&frequencies(&params(9), &[1.0; 4]), &[0.25; 4]);
}

#[test]
fn top_p_keeps_the_fewest_tokens_that_reach_it() {
    let params = |top_p| SamplingParams { top_p, ..seeded() };
    let two = [0.4 / 0.7, 0.3 / 0.7, 0.0, 0.0];
    assert_close(&frequencies(&params(0.65), &four()), &two);
    assert_close(&frequencies(&params(0.39), &four()), &[1.0, 0.0, 0.0, 0.0]);
    assert_close(&frequencies(&params(0.95), &four()), &[0.4, 0.3, 0.2, 0.1]);
    let tiny = params(f32::MIN_POSITIVE);
    assert_close(&frequencies(&tiny, &[0.1; 7]), &[1.0, 0.0]);
}

#[test]
fn min_p_is_relative_to_the_most_probable_token() {
    let params = SamplingParams {
        min_p: 0.6,
        ..seeded()
    };
    let two = [0.4 / 0.7, 0.3 / 0.7, 0.0, 0.0];
    assert_close(&frequencies(&params, &four()), &two);
}

#[test]
fn top_p_is_measured_after_temperature_and_top_k() {
    let after_top_k = SamplingParams {
        top_k: Some(2),
        top_p: 0.55,
        ..seeded()
    };
    assert_close(&frequencies(&after_top_k, &four()), &[1.0, 0.0]);
    let after_temperature = SamplingParams {
        temperature: 0.5,
        top_p: 0.5,
        ..seeded()
    };
    assert_close(&frequencies(&after_temperature, &four()), &[1.0, 0.0]);
}

#[test]
fn the_partial_selections_agree_with_a_full_sort() {
    for num in [1, 63, 64, 65, 300, 5000] {
        let logits = scattered(num);
        let mut sorted: Vec<u32> = (0..num).collect();
        sorted.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
        let weights: Vec<f64> = sorted
            .iter()
            .map(|id| f64::from((logits[*id as usize] - 10.24).exp()))
            .collect();
        let total: f64 = weights.iter().sum();
        let mut candidates = Vec::new();
        for k in [1, 2, 64, 100, 4999] {
            largest(&logits, k, &mut candidates);
            let ids: Vec<u32> = candidates.iter().map(|candidate| candidate.id).collect();
            assert_eq!(ids, sorted[..k.min(num as usize)], "{k} of {num}");
        }
        for top_p in [0.01, 0.5, 0.9, 0.999] {
            let mut reached = 0.0;
            let is_reached = |weight: &f64| {
                reached += weight / total;
                reached >= top_p
            };
            let num_kept = weights.iter().position(is_reached).unwrap() + 1;
            all(&logits, &mut candidates);
            for candidate in &mut candidates {
                candidate.weight = (candidate.weight - 10.24).exp();
            }
            let max = candidates
                .iter()
                .map(|candidate| candidate.weight)
                .fold(0.0, f32::max);
            candidates
                .iter_mut()
                .for_each(|candidate| candidate.weight /= max);
            keep_nucleus(&mut candidates, top_p as f32);
            candidates.sort_by(by_weight);
            let ids: Vec<u32> = candidates.iter().map(|candidate| candidate.id).collect();
            assert_eq!(ids, sorted[..num_kept], "{top_p} of {num}");
        }
    }
}

#[test]
fn bias_is_added_and_adds_up() {
    let biased = |entries: &[(u32, f32)]| {
        let params = SamplingParams {
            logit_bias: entries.to_vec(),
            ..SamplingParams::greedy()
        };
        sample(&params, &[], &[1.0, 2.0, 3.0])
    };
    assert_eq!(biased(&[]), Ok(2));
    assert_eq!(biased(&[(0, 2.5)]), Ok(0));
    assert_eq!(biased(&[(0, 1.25), (0, 1.25)]), Ok(0));
    assert_eq!(biased(&[(2, -100.0)]), Ok(1));
}

/// The logits after the penalties of a sequence that was given `prompt` and generated `output`.
fn penalized(params: SamplingParams, prompt: &[u32], output: &[u32], logits: &[f32]) -> Vec<f32> {
    let mut sampler = Sampler::new(
        SamplingParams {
            temperature: 0.0,
            ..params
        },
        prompt,
    );
    for &token in output {
        let mut choice = vec![0.0; logits.len()];
        choice[token as usize] = 1e6;
        assert_eq!(sampler.sample(&choice, &mut Scratch::default()), Ok(token));
    }
    let mut adjusted = logits.to_vec();
    sampler.adjust(&mut adjusted);
    adjusted
}

#[test]
fn the_repetition_penalty_applies_once_to_each_token_of_prompt_and_output() {
    let params = SamplingParams {
        repetition_penalty: 2.0,
        ..SamplingParams::default()
    };
    let adjusted = penalized(params, &[0, 1, 1], &[2, 2], &[4.0, -4.0, 6.0, 8.0]);
    assert_eq!(adjusted, [2.0, -8.0, 3.0, 8.0]);
}

#[test]
fn presence_and_frequency_penalties_count_the_output_only() {
    let params = SamplingParams {
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        ..SamplingParams::default()
    };
    let adjusted = penalized(params, &[0, 1], &[1, 2, 2], &[1.0, 1.0, 1.0, 1.0]);
    assert_eq!(adjusted, [1.0, 0.25, 0.0, 1.0]);
}

#[test]
fn penalties_at_the_end_of_their_range_leave_a_distribution() {
    for repetition_penalty in [f32::MIN_POSITIVE, f32::MAX] {
        let params = SamplingParams {
            repetition_penalty,
            ..seeded()
        };
        assert_eq!(sample(&params, &[0, 1], &[5.0, -5.0]), Ok(0));
        assert!(sample(&params, &[0, 1], &[-5.0, -5.0]).is_ok());
        assert!(sample(&params, &[0, 1], &[5.0, 5.0]).is_ok());
    }
}

#[test]
fn the_same_seed_gives_the_same_draws_and_another_seed_others() {
    let logits = scattered(1000);
    let draws = |seed| {
        let params = SamplingParams {
            seed,
            temperature: 2.0,
            ..SamplingParams::default()
        };
        let mut sampler = Sampler::new(params, &[]);
        let mut scratch = Scratch::default();
        let draws = (0..20).map(|_| sampler.sample(&logits, &mut scratch).unwrap());
        draws.collect::<Vec<_>>()
    };
    assert_eq!(draws(Some(1)), draws(Some(1)));
    assert_ne!(draws(Some(1)), draws(Some(2)));
    assert_ne!(draws(None), draws(None));
}

#[test]
fn logits_that_are_no_distribution_are_an_error() {
    for params in [SamplingParams::greedy(), seeded()] {
        let nan = sample(&params, &[], &[0.0, f32::NAN]);
        let infinite = sample(&params, &[], &[0.0, f32::INFINITY]);
        let nothing = sample(&params, &[], &[f32::NEG_INFINITY; 2]);
        assert_eq!([nan, infinite, nothing], [Err(InvalidLogits); 3]);
    }
}

#[test]
fn a_token_at_negative_infinity_is_never_drawn() {
    let logits = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0];
    assert_close(&frequencies(&seeded(), &logits), &[0.0, 0.5, 0.0, 0.5]);
}

#[test]
fn log_probabilities_are_the_logarithms_of_the_softmax() {
    let shifted: Vec<f32> = four().iter().map(|logit| logit + 500.0).collect();
    let values = log_probabilities(&shifted, [3, 0].into_iter());
    assert!((values[0] - 0.1f32.ln()).abs() < 1e-4, "{values:?}");
    assert!((values[1] - 0.4f32.ln()).abs() < 1e-4, "{values:?}");
}

#[test]
fn who_draws_does_not_change_what_comes_next() {
    let logits = scattered(300);
    let mut scratch = Scratch::default();
    let mut sampler = Sampler::new(seeded(), &[]);
    let alone: Vec<_> = (0..40)
        .map(|_| sampler.sample(&logits, &mut scratch))
        .collect();
    let mut sampler = Sampler::new(seeded(), &[]);
    for (step, expected) in alone.into_iter().enumerate() {
        // A step may be asked for, come to nothing and be asked for again.
        let draws: Vec<Draw> = (0..step % 3)
            .map(|_| sampler.draw_ahead().unwrap())
            .collect();
        assert!(draws.windows(2).all(|two| two[0] == two[1]));
        let token = match draws.last().filter(|_| step % 2 == 0) {
            Some(draw) => sampler.accept(Ok(drawn(&logits, draw, &mut Vec::new()))),
            None => sampler.sample(&logits, &mut scratch),
        };
        assert_eq!(token, expected, "step {step}");
    }
}

#[test]
fn only_what_depends_on_the_logits_alone_is_drawn_ahead() {
    let draw = |params: SamplingParams| Sampler::new(params, &[1]).draw_ahead();
    let kept = SamplingParams {
        temperature: 0.5,
        top_k: Some(3),
        top_p: 0.25,
        min_p: 0.125,
        ..seeded()
    };
    let drawn = draw(kept.clone()).unwrap();
    let expected = Draw {
        temperature: 0.5,
        top_k: Some(3),
        top_p: 0.25,
        min_p: 0.125,
        uniform: drawn.uniform,
    };
    assert_eq!(drawn, expected);
    assert!((0.0..1.0).contains(&drawn.uniform));
    let changes: [fn(&mut SamplingParams); 4] = [
        |params| params.repetition_penalty = 1.1,
        |params| params.presence_penalty = 0.5,
        |params| params.frequency_penalty = -0.5,
        |params| params.logit_bias = vec![(2, 1.0)],
    ];
    for change in changes {
        let mut params = kept.clone();
        change(&mut params);
        assert_eq!(draw(params.clone()), None, "{params:?}");
    }
}
