//! Plonky3 0.6.2 as judge and as peer. Four commands, each over many files or cases at once:
//!
//!     plonky3-peer prove-poseidon2 PARAMETERS SEED LOG_ROWS PER_ROW REPEAT [FILE]
//!     plonky3-peer verify-poseidon2 PARAMETERS PER_ROW FILE…
//!     plonky3-peer verify-operation PARAMETERS (FILE PUBLIC,PUBLIC,…)…
//!     plonky3-peer verify-stream PARAMETERS poseidon2-1|poseidon2-8|operation
//!
//! One JSON object a line on standard output. `verify-*` answers for every proof (accepted, or why not) and exits 0
//! when it could answer for all of them. Threads: RAYON_NUM_THREADS.
//!
//! `verify-stream` reads thousands of proofs from standard input (see `stream`).

mod config;
mod operation_air;
mod stream;

use std::env;
use std::fs;
use std::io;
use std::panic;
use std::process::ExitCode;
use std::time::Instant;

use p3_air::Air;
use p3_field::PrimeCharacteristicRing;
use p3_koala_bear::{
    GenericPoseidon2LinearLayersKoalaBear, KOALABEAR_POSEIDON2_RC_16_EXTERNAL_FINAL,
    KOALABEAR_POSEIDON2_RC_16_EXTERNAL_INITIAL, KOALABEAR_POSEIDON2_RC_16_INTERNAL,
};
use p3_poseidon2_air::{
    Poseidon2Air, RoundConstants, VectorizedPoseidon2Air, generate_trace_rows,
    generate_vectorized_trace_rows,
};
use p3_uni_stark::{Proof, prove, verify};
use serde_json::json;

use config::{Config, Val, config};
use operation_air::OperationAir;
use stream::next_case;

/// As in Plonky3's own examples: the system's allocator would slow it by page faults.
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Layers = GenericPoseidon2LinearLayersKoalaBear;
type Single = Poseidon2Air<Val, Layers, 16, 3, 0, 4, 20>;
type Eight = VectorizedPoseidon2Air<Val, Layers, 16, 3, 0, 4, 20, 8>;
const MODULUS: u64 = 0x7f00_0001;

fn constants() -> RoundConstants<Val, 16, 4, 20> {
    RoundConstants::new(
        KOALABEAR_POSEIDON2_RC_16_EXTERNAL_INITIAL,
        KOALABEAR_POSEIDON2_RC_16_INTERNAL,
        KOALABEAR_POSEIDON2_RC_16_EXTERNAL_FINAL,
    )
}

/// The inputs of benchmarks and vectors: the splitmix64 stream from `seed`, each word mod p.
fn inputs(seed: u64, permutations: usize) -> Vec<[Val; 16]> {
    let mut state = seed;
    let mut word = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..permutations)
        .map(|_| core::array::from_fn(|_| Val::from_u32((word() % MODULUS) as u32)))
        .collect()
}

fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{what}: not a number in range: {text}"))
}

fn prove_poseidon2(arguments: &[String]) -> Result<(), String> {
    let [parameters, seed, log_rows, per_row, repeat, rest @ ..] = arguments else {
        return Err("prove-poseidon2 PARAMETERS SEED LOG_ROWS PER_ROW REPEAT [FILE]".into());
    };
    let config = config(parameters).ok_or("unknown parameters")?;
    let log_rows: usize = number(log_rows, "LOG_ROWS")?;
    let per_row: usize = number(per_row, "PER_ROW")?;
    let seed: u64 = number(seed, "SEED")?;
    if !(3..=22).contains(&log_rows) || !matches!(per_row, 1 | 8) {
        return Err("LOG_ROWS is 3 to 22, PER_ROW 1 or 8".into());
    }
    for round in 0..number::<usize>(repeat, "REPEAT")? {
        let permutations = per_row << log_rows;
        let start = Instant::now();
        let input = inputs(seed, permutations);
        let drawn_s = start.elapsed().as_secs_f64();
        let (trace_s, proof) = if per_row == 1 {
            let start = Instant::now();
            let trace = generate_trace_rows::<_, Layers, 16, 3, 0, 4, 20>(input, &constants(), 1);
            let trace_s = start.elapsed().as_secs_f64();
            (trace_s, prove(&config, &Single::new(constants()), trace, &[]))
        } else {
            let start = Instant::now();
            let trace = generate_vectorized_trace_rows::<_, Layers, 16, 3, 0, 4, 20, 8>(
                input,
                &constants(),
                1,
            );
            let trace_s = start.elapsed().as_secs_f64();
            (trace_s, prove(&config, &Eight::new(constants()), trace, &[]))
        };
        let total_s = start.elapsed().as_secs_f64() - drawn_s;
        let bytes = postcard::to_stdvec(&proof).map_err(|error| error.to_string())?;
        if let [file] = rest {
            fs::write(file, &bytes).map_err(|error| format!("{file}: {error}"))?;
        }
        println!(
            "{}",
            json!({"round": round, "permutations": permutations, "trace_s": trace_s, "total_s": total_s,
                   "permutations_per_s": permutations as f64 / total_s, "proof_bytes": bytes.len()})
        );
    }
    Ok(())
}

/// Plonky3's word on one proof. Bytes that do not decode, or that leave a rest, are refused as `decode`.
fn judge<A>(config: &Config, air: &A, bytes: &[u8], public: &[Val]) -> Result<(), String>
where
    A: for<'a> Air<p3_uni_stark::VerifierConstraintFolder<'a, Config>>
        + Air<p3_air::symbolic::SymbolicAirBuilder<Val>>,
{
    let (proof, rest): (Proof<Config>, _) =
        postcard::take_from_bytes(bytes).map_err(|error| format!("decode: {error}"))?;
    if !rest.is_empty() {
        return Err(format!("decode: {} trailing bytes", rest.len()));
    }
    let verdict = panic::catch_unwind(panic::AssertUnwindSafe(|| verify(config, air, &proof, public)));
    match verdict {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("refused: {error:?}")),
        Err(_) => Err("refused: the verifier panicked".into()),
    }
}

fn report(file: &str, verdict: Result<(), String>) {
    let detail = verdict.as_ref().err().map(|text| text.chars().take(200).collect::<String>());
    println!("{}", json!({"file": file, "accepted": verdict.is_ok(), "detail": detail}));
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{file}: {error}"))
}

fn verify_poseidon2(arguments: &[String]) -> Result<(), String> {
    let [parameters, per_row, files @ ..] = arguments else {
        return Err("verify-poseidon2 PARAMETERS PER_ROW FILE…".into());
    };
    let config = config(parameters).ok_or("unknown parameters")?;
    for file in files {
        let bytes = read(file)?;
        let verdict = match per_row.as_str() {
            "1" => judge(&config, &Single::new(constants()), &bytes, &[]),
            "8" => judge(&config, &Eight::new(constants()), &bytes, &[]),
            _ => return Err("PER_ROW is 1 or 8".into()),
        };
        report(file, verdict);
    }
    Ok(())
}

fn verify_operation(arguments: &[String]) -> Result<(), String> {
    let [parameters, cases @ ..] = arguments else {
        return Err("verify-operation PARAMETERS (FILE PUBLIC,PUBLIC,…)…".into());
    };
    let config = config(parameters).ok_or("unknown parameters")?;
    for case in cases.chunks(2) {
        let [file, values] = case else {
            return Err("every FILE needs its public values".into());
        };
        let public = values
            .split(',')
            .map(|text| number::<u32>(text, "PUBLIC").and_then(public_value))
            .collect::<Result<Vec<_>, String>>()?;
        report(file, judge(&config, &OperationAir, &read(file)?, &public));
    }
    Ok(())
}

fn public_value(value: u32) -> Result<Val, String> {
    (u64::from(value) < MODULUS).then(|| Val::from_u32(value)).ok_or("a public value is not below p".into())
}

/// The verdict on every proof of standard input, in order; `file` is its number.
fn verify_stream(arguments: &[String]) -> Result<(), String> {
    let [parameters, air] = arguments else {
        return Err("verify-stream PARAMETERS poseidon2-1|poseidon2-8|operation".into());
    };
    let config = config(parameters).ok_or("unknown parameters")?;
    let mut stream = io::stdin().lock();
    let mut number = 0;
    while let Some(case) = next_case(&mut stream).map_err(|error| format!("case {number}: {error}"))? {
        let public = case.public.into_iter().map(public_value).collect::<Result<Vec<_>, _>>();
        let verdict = public.and_then(|public| match air.as_str() {
            "poseidon2-1" => judge(&config, &Single::new(constants()), &case.proof, &public),
            "poseidon2-8" => judge(&config, &Eight::new(constants()), &case.proof, &public),
            "operation" => judge(&config, &OperationAir, &case.proof, &public),
            other => Err(format!("no AIR is called {other}")),
        });
        report(&number.to_string(), verdict);
        number += 1;
    }
    Ok(())
}

fn main() -> ExitCode {
    // A verifier that panics refuses; thousands of mutated proofs need no word about each.
    panic::set_hook(Box::new(|_| {}));
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((command, rest)) => match command.as_str() {
            "prove-poseidon2" => prove_poseidon2(rest),
            "verify-poseidon2" => verify_poseidon2(rest),
            "verify-operation" => verify_operation(rest),
            "verify-stream" => verify_stream(rest),
            other => Err(format!("unknown command {other}")),
        },
        None => Err("prove-poseidon2 | verify-poseidon2 | verify-operation | verify-stream".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("plonky3-peer: {message}");
            ExitCode::from(2)
        }
    }
}
