//! A copy of this binary: started, told over a pipe what to do, stopped, killed.
//!
//! Orders and answers are JSON, a line each. A child ends when its orders end, so none outlives who
//! started it, however that ended.

use std::io::{BufRead, BufReader, Write, stdout};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Answers of a child that nobody has taken yet.
const ANSWERS_MAX: usize = 64;

/// How copies are started: the binary, and what it is told before its own arguments.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The binary.
    pub binary: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<String>,
}

impl Launcher {
    /// Starts this very binary by its hidden subcommand.
    ///
    /// # Errors
    /// What the system says about where the binary is.
    pub fn own() -> anyhow::Result<Self> {
        Ok(Self {
            binary: std::env::current_exe().context("cannot find this binary")?,
            arguments: vec!["bench".to_owned(), "child".to_owned()],
        })
    }

    /// Starts a child.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(&self, arguments: &[String]) -> anyhow::Result<Child> {
        let mut process = Command::new(&self.binary)
            .args(&self.arguments)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let orders = process.stdin.take().context("the child has no input")?;
        let output = process.stdout.take().context("the child has no output")?;
        let (sender, answers) = sync_channel(ANSWERS_MAX);
        Builder::new()
            .name("bench-answers".to_owned())
            .spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Child {
            process,
            orders,
            answers,
        })
    }
}

/// A child; dropping it kills it.
pub struct Child {
    process: std::process::Child,
    orders: std::process::ChildStdin,
    answers: Receiver<String>,
}

impl Child {
    /// Gives an order.
    ///
    /// # Errors
    /// A child that has ended.
    pub fn tell(&mut self, order: &impl Serialize) -> anyhow::Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        let told = self.orders.write_all(line.as_bytes());
        told.context("the child has ended")
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// A child that has ended, says something else, or nothing for so long.
    pub fn answer<A: DeserializeOwned>(&self, patience: Duration) -> anyhow::Result<A> {
        let line = match self.answers.recv_timeout(patience) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => bail!("the child says nothing for {patience:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the child has ended"),
        };
        parse(&line)
    }

    /// Gives the next answer if there is one.
    ///
    /// # Errors
    /// A child that says something else, or has ended without an answer.
    pub fn try_answer<A: DeserializeOwned>(&self) -> anyhow::Result<Option<A>> {
        match self.answers.try_recv() {
            Ok(line) => parse(&line).map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(anyhow!("the child has ended")),
        }
    }

    /// Stops it where it is (`SIGSTOP`).
    ///
    /// # Errors
    /// A child that has ended.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (`SIGCONT`).
    ///
    /// # Errors
    /// A child that has ended.
    pub fn go_on(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.process), signal).context("the child has ended")
    }

    /// Kills it (`SIGKILL`), so that it cannot tidy up, and waits until it is gone.
    pub fn kill(&mut self) {
        // Both fail only if it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }

    /// Gives what the kernel says of it under `/proc`, such as `status`.
    ///
    /// # Errors
    /// A child that has ended.
    pub fn proc_file(&self, name: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{name}", self.process.id());
        std::fs::read_to_string(&path).with_context(|| path)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Says an answer, in a child.
///
/// # Errors
/// A parent that has ended.
pub fn say(answer: &impl Serialize) -> anyhow::Result<()> {
    let mut output = stdout().lock();
    writeln!(output, "{}", serde_json::to_string(answer)?)?;
    Ok(output.flush()?)
}

/// Reads a line of the other side.
///
/// # Errors
/// A line that is no such thing.
pub fn parse<T: DeserializeOwned>(line: &str) -> anyhow::Result<T> {
    serde_json::from_str(line).with_context(|| format!("not understood: {line}"))
}
