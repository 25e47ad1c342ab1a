//! `inglenook bench`: how fast a chat model reads and writes on this machine, alone, in company, under arriving requests,
//! and while a long prompt is read. Straight through the engine: no HTTP, no text.

mod measure;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::future::try_join_all;
use serde::Serialize;
use serde_json::json;

use crate::app;
use crate::config::Settings;
use crate::engine::Engine;
use measure::{Spread, Timeline, poisson_arrivals, random_prompt, run as send, seeded};

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// A GGUF file, or a name from `inglenook models`
    model: String,
    /// Prompt lengths, in tokens
    #[arg(long, value_delimiter = ',', default_value = "128,512")]
    prompts: Vec<usize>,
    /// Requests at the same time
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    concurrency: Vec<usize>,
    /// Tokens that each request generates
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(2..))]
    tokens: u64,
    /// Also: requests that arrive by chance, so many a second, each with the first prompt length
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// How many requests arrive
    #[arg(long, default_value_t = 32)]
    requests: usize,
    /// Also: how long running streams wait for their tokens while a prompt of so many tokens is read
    #[arg(long, value_name = "TOKENS")]
    long_prompt: Option<usize>,
    /// What decides prompts and arrivals: the same seed gives the same
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object in place of tables
    #[arg(long)]
    json: bool,
}

/// So many prompts of one length at the same time.
#[derive(Debug, Serialize)]
struct Throughput {
    num_prompt_tokens: usize,
    concurrency: usize,
    /// Prompt tokens a second, all together, until the last prompt was read.
    prefill_per_second: f64,
    /// Generated tokens a second, all together, from then on.
    decode_per_second: f64,
    time_to_first: Option<Spread>,
    inter_token: Option<Spread>,
}

/// Requests that arrive by chance.
#[derive(Debug, Serialize)]
struct Load {
    rate_per_second: f64,
    num_requests: usize,
    num_prompt_tokens: usize,
    generated_per_second: f64,
    time_to_first: Option<Spread>,
    inter_token: Option<Spread>,
}

/// Running streams before, while and after a long prompt is read. Their own contexts grow meanwhile, so that what they
/// would have waited without it lies between the first and the last.
#[derive(Debug, Serialize)]
struct LongPrompt {
    num_prompt_tokens: usize,
    num_streams: usize,
    read_seconds: f64,
    inter_token_before: Option<Spread>,
    inter_token_during: Option<Spread>,
    inter_token_after: Option<Spread>,
}

pub async fn run(mut settings: Settings, args: BenchArgs) -> anyhow::Result<ExitCode> {
    let lengths = args.prompts.iter().chain(&args.concurrency);
    anyhow::ensure!(
        lengths.chain(&args.long_prompt).all(|it| *it > 0) && args.requests > 0,
        "lengths and counts must be at least 1"
    );
    anyhow::ensure!(
        args.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()),
        "--rate must be above 0"
    );
    // All requests may arrive at once.
    let most = args.concurrency.iter().copied().max().unwrap_or(1);
    settings.max_waiting = settings.max_waiting.max(most).max(args.requests);
    let (chat, device) = app::load_chat_model(&settings, &args.model)?;
    let engine = chat.engine();
    // The first pass pays for what is made once.
    let mut random = seeded(args.seed);
    send(
        engine.clone(),
        random_prompt(vocabulary(engine), 16, &mut random),
        4,
    )
    .await?;

    let mut throughputs = Vec::new();
    for num_prompt_tokens in &args.prompts {
        for concurrency in &args.concurrency {
            throughputs.push(throughput(engine, &args, *num_prompt_tokens, *concurrency).await?);
        }
    }
    let load = match args.rate {
        Some(rate) => Some(load(engine, &args, rate).await?),
        None => None,
    };
    let long_prompt = match args.long_prompt {
        Some(num_tokens) => Some(long_prompt(engine, &args, num_tokens).await?),
        None => None,
    };
    if args.json {
        let report = json!({
            "model": chat.id(),
            "device": device,
            "tokens": args.tokens,
            "seed": args.seed,
            "throughput": throughputs,
            "load": load,
            "long_prompt": long_prompt,
        });
        println!("{report}");
    } else {
        println!("{} on {device}, {} tokens each", chat.id(), args.tokens);
        print_throughputs(&throughputs);
        load.iter().for_each(print_load);
        long_prompt.iter().for_each(print_long_prompt);
    }
    engine.shutdown(Duration::ZERO).await;
    Ok(ExitCode::SUCCESS)
}

fn vocabulary(engine: &Engine) -> usize {
    engine.spec().vocab_size
}

async fn throughput(
    engine: &Engine,
    args: &BenchArgs,
    num_prompt_tokens: usize,
    concurrency: usize,
) -> anyhow::Result<Throughput> {
    // Another seed for each, so that no prompt begins as one before.
    let seed = args.seed + (num_prompt_tokens * 1000 + concurrency) as u64;
    let mut random = seeded(seed);
    let started = Instant::now();
    let requests = (0..concurrency).map(|_| {
        let prompt = random_prompt(vocabulary(engine), num_prompt_tokens, &mut random);
        send(engine.clone(), prompt, args.tokens as usize)
    });
    let timelines = try_join_all(requests.collect::<Vec<_>>()).await?;
    let all_read = latest(&timelines, Timeline::first, started);
    let ended = latest(&timelines, Timeline::last, started);
    let tokens = timelines.iter().flat_map(|it| &it.tokens);
    let num_decoded = tokens.filter(|at| **at > all_read).count();
    Ok(Throughput {
        num_prompt_tokens,
        concurrency,
        prefill_per_second: per_second(concurrency * num_prompt_tokens, all_read - started),
        decode_per_second: per_second(num_decoded, ended - all_read),
        time_to_first: Spread::of(timelines.iter().map(Timeline::time_to_first)),
        inter_token: Spread::of(timelines.iter().flat_map(|it| it.gaps(all_read, ended))),
    })
}

async fn load(engine: &Engine, args: &BenchArgs, rate: f64) -> anyhow::Result<Load> {
    let mut random = seeded(args.seed);
    let num_prompt_tokens = args.prompts.first().copied().unwrap_or(1);
    let arrivals = poisson_arrivals(rate, args.requests, &mut random);
    let started = Instant::now();
    let requests = arrivals.into_iter().map(|at| {
        let prompt = random_prompt(vocabulary(engine), num_prompt_tokens, &mut random);
        async move {
            tokio::time::sleep_until((started + at).into()).await;
            send(engine.clone(), prompt, args.tokens as usize).await
        }
    });
    let timelines = try_join_all(requests.collect::<Vec<_>>()).await?;
    let ended = latest(&timelines, Timeline::last, started);
    let num_generated = timelines.iter().map(|it| it.tokens.len()).sum();
    Ok(Load {
        rate_per_second: rate,
        num_requests: args.requests,
        num_prompt_tokens,
        generated_per_second: per_second(num_generated, ended - started),
        time_to_first: Spread::of(timelines.iter().map(Timeline::time_to_first)),
        inter_token: Spread::of(timelines.iter().flat_map(Timeline::all_gaps)),
    })
}

async fn long_prompt(
    engine: &Engine,
    args: &BenchArgs,
    num_tokens: usize,
) -> anyhow::Result<LongPrompt> {
    let mut random = seeded(args.seed + 1);
    let num_streams = args.concurrency.iter().copied().max().unwrap_or(1);
    // The streams must outlive the reading, however long it takes; they are dropped after it.
    let num_stream_tokens = engine.context_length().saturating_sub(16).max(1);
    let prompts = (0..num_streams).map(|_| random_prompt(vocabulary(engine), 16, &mut random));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let streams: Vec<_> = prompts
        .map(|prompt| {
            let stream =
                measure::run_until(engine.clone(), prompt, num_stream_tokens, stopped.clone());
            tokio::spawn(stream)
        })
        .collect();
    let settled = Instant::now() + WARM_UP;
    tokio::time::sleep(WARM_UP + AROUND).await;
    let begun = Instant::now();
    let prompt = random_prompt(vocabulary(engine), num_tokens, &mut random);
    let long = send(engine.clone(), prompt, 1).await?;
    let read = Instant::now();
    tokio::time::sleep(AROUND).await;
    // Ended before the error of another could hide it.
    let _ = stop.send(true);
    let mut timelines = Vec::new();
    for stream in streams {
        timelines.push(stream.await??);
    }
    let gaps = |from, to| Spread::of(timelines.iter().flat_map(move |it| it.gaps(from, to)));
    Ok(LongPrompt {
        num_prompt_tokens: num_tokens,
        num_streams,
        read_seconds: long.time_to_first().as_secs_f64(),
        inter_token_before: gaps(settled, begun),
        inter_token_during: gaps(begun, long.first()),
        inter_token_after: gaps(read, read + AROUND),
    })
}

/// How long streams run before their pace is measured, and how long it is measured before and after the long prompt.
const WARM_UP: Duration = Duration::from_millis(500);
const AROUND: Duration = Duration::from_secs(3);

fn latest(timelines: &[Timeline], of: impl Fn(&Timeline) -> Instant, start: Instant) -> Instant {
    timelines.iter().map(of).max().unwrap_or(start)
}

fn per_second(count: usize, time: Duration) -> f64 {
    match time.is_zero() {
        true => 0.0,
        false => count as f64 / time.as_secs_f64(),
    }
}

fn print_throughputs(throughputs: &[Throughput]) {
    println!(
        "\nprompt  at once  prefill tok/s  decode tok/s  first token p50 / p95 ms  inter-token p50 / p95 / p99 ms"
    );
    for it in throughputs {
        println!(
            "{:>6}  {:>7}  {:>13.1}  {:>12.1}  {:>24}  {:>30}",
            it.num_prompt_tokens,
            it.concurrency,
            it.prefill_per_second,
            it.decode_per_second,
            it.time_to_first.map_or("-".into(), |it| format!(
                "{:.0} / {:.0}",
                it.p50_ms, it.p95_ms
            )),
            shown(it.inter_token),
        );
    }
}

fn print_load(load: &Load) {
    println!(
        "\n{} requests of {} tokens arriving at {} a second: {:.1} tokens a second",
        load.num_requests, load.num_prompt_tokens, load.rate_per_second, load.generated_per_second
    );
    println!(
        "  first token p50 / p95 / p99 ms: {}",
        shown(load.time_to_first)
    );
    println!(
        "  inter-token p50 / p95 / p99 ms: {}",
        shown(load.inter_token)
    );
}

fn print_long_prompt(long: &LongPrompt) {
    println!(
        "\na prompt of {} tokens beside {} streams: read in {:.1} s",
        long.num_prompt_tokens, long.num_streams, long.read_seconds
    );
    println!(
        "  inter-token of the streams before, p50 / p95 / p99 ms: {}",
        shown(long.inter_token_before)
    );
    println!(
        "  and while it is read:                                  {}",
        shown(long.inter_token_during)
    );
    println!(
        "  and after it, with their contexts grown:               {}",
        shown(long.inter_token_after)
    );
}

fn shown(spread: Option<Spread>) -> String {
    spread.map_or("-".into(), |it| {
        format!("{:.1} / {:.1} / {:.1}", it.p50_ms, it.p95_ms, it.p99_ms)
    })
}
