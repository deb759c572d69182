//! Measures clauderon beside its peers: `bench/run --help`.
//!
//! Every proxy replaces a placeholder `Authorization` by the real one (the origin refuses anything else) and verifies the
//! origin's certificate. Only ratios of one interleaved run count.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clauderon_bench::job::{Job, Measured, Mode};
use clauderon_bench::process::{self, Owned};

mod peers;
mod report;

use peers::{Bench, Peer};
use report::{Results, Sample};

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let bench = Bench::start()?;
    let mut results = Results::new(&options.peers, &options.modes);
    for round in 0..options.rounds {
        // Fresh processes, so that start and idle memory are measured before any load.
        let mut peers =
            options.peers.iter().map(|kind| bench.peer(kind, &options.clauderon)).collect::<Result<Vec<_>>>()?;
        for peer in &peers {
            results.start_rss(&peer.name, peer.start_rss_kib);
        }
        for (at, mode) in options.modes.iter().enumerate() {
            // A B C, then C B A: a drift of the machine falls on all alike.
            let backwards = (round + at) % 2 == 1;
            if backwards {
                peers.reverse();
            }
            for peer in peers.iter().filter(|peer| peer.can(*mode)) {
                eprintln!("round {} of {}: {} {}", round + 1, options.rounds, mode.name(), peer.name);
                let sample = measure(&bench, peer, *mode, &options, round)
                    .with_context(|| format!("{} through {} failed{}", mode.name(), peer.name, peer.log_tail()))?;
                results.add(&peer.name, *mode, sample);
            }
            if backwards {
                peers.reverse();
            }
        }
        for peer in &peers {
            results.end_rss(&peer.name, process::rss_kib(peer.pid)?);
        }
    }
    results.write(&options.out)
}

fn measure(bench: &Bench, peer: &Peer, mode: Mode, options: &Options, round: usize) -> Result<Sample> {
    let requests = ((mode.requests() as f64 * options.scale) as usize).max(1);
    let job = Job {
        mode,
        requests,
        via: peer.via.clone(),
        ca: peer.ca.clone(),
        authorization: peer.authorization.clone(),
        first_host: round * requests,
    };
    let mut load = LoadProcess::start(bench, &job)?;
    load.line().context("no warm tunnels")?;
    let (cpu, rss) = (process::cpu_seconds(peer.pid)?, process::rss_kib(peer.pid)?);
    load.go()?;
    let measured: Measured = serde_json::from_str(&load.line()?)?;
    let cpu_seconds = process::cpu_seconds(peer.pid)? - cpu;
    let rss_kib = process::rss_kib(peer.pid)?.saturating_sub(rss);
    load.go()?;
    Ok(Sample { measured, cpu_seconds, rss_kib })
}

struct LoadProcess {
    child: Owned,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl LoadProcess {
    fn start(bench: &Bench, job: &Job) -> Result<Self> {
        let mut command = Command::new(bench.binary("load")?);
        command.arg(serde_json::to_string(job)?).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Owned(command.spawn()?);
        let lines = BufReader::new(child.0.stdout.take().context("no output")?).lines();
        Ok(Self { child, lines })
    }

    fn line(&mut self) -> Result<String> {
        self.lines.next().context("the load generator ended")?.map_err(Into::into)
    }

    fn go(&mut self) -> Result<()> {
        Ok(self.child.0.stdin.as_mut().context("no input")?.write_all(b"go\n")?)
    }
}

/// What to run.
struct Options {
    peers: Vec<String>,
    modes: Vec<Mode>,
    rounds: usize,
    scale: f64,
    clauderon: PathBuf,
    out: PathBuf,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut options = Self {
            peers: ["direct", "haproxy", "hudsucker", "clauderon"].map(str::to_owned).to_vec(),
            modes: Mode::ALL.to_vec(),
            rounds: 3,
            scale: 1.0,
            clauderon: root.join("../target/release/clauderon"),
            out: root.join("results"),
        };
        while let Some(flag) = args.next() {
            let mut value = || args.next().with_context(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--peers" => options.peers = value()?.split(',').map(str::to_owned).collect(),
                "--modes" => options.modes = value()?.split(',').map(mode).collect::<Result<_>>()?,
                "--rounds" => options.rounds = value()?.parse()?,
                "--scale" => options.scale = value()?.parse()?,
                "--clauderon" => options.clauderon = value()?.into(),
                "--out" => options.out = value()?.into(),
                _ => bail!("{USAGE}"),
            }
        }
        Ok(options)
    }
}

fn mode(name: &str) -> Result<Mode> {
    Mode::ALL.into_iter().find(|mode| mode.name() == name).with_context(|| format!("no mode `{name}`\n{USAGE}"))
}

const USAGE: &str = "usage: bench/run [--peers direct,haproxy,hudsucker,clauderon,clauderon-noaudit] \
[--modes idle,warm-h1,h1-c1,warm-h2,cold,cold-resume,cold-hosts,down,up,sse,plain] \
[--rounds 3] [--scale 1.0] [--clauderon BINARY] [--out DIRECTORY]";
