//! The binary as a process: a daemon, one of several, or a command that ends by itself.

use std::ffi::OsStr;
use std::fs::{File, read_to_string};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::cell::Cell;
use super::http::Server;
use super::{Places, TempDir, free_port, until};

/// Lines of a log that help to see why a story failed.
const TAIL: usize = 60;

/// What a command that ended has left.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Exit code of `timeout` for what it had to end.
const TIMED_OUT: i32 = 124;

/// Runs the binary until it ends by itself; one that does not has the code [`TIMED_OUT`].
pub(crate) fn vlad<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ended {
    // Longer than a task may run; the tool is part of every Linux.
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "150", env!("CARGO_BIN_EXE_vlad")]);
    run(&mut command, args)
}

/// The same for a daemon that must not even start: seconds are enough to see that it did.
pub(crate) fn vlad_refused<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ended {
    let mut command = Command::new("timeout");
    command.args(["20", env!("CARGO_BIN_EXE_vlad")]);
    run(&mut command, args)
}

fn run<S: AsRef<OsStr>>(command: &mut Command, args: impl IntoIterator<Item = S>) -> Ended {
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(TIMED_OUT),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A process that runs until it is ended; its log goes to a file.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the binary; `log` is a file that is made for it.
    pub(crate) fn spawn(args: &[String], log: PathBuf) -> Self {
        let err = File::create(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_vlad"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(err)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// What it has logged by now.
    pub(crate) fn log(&self) -> String {
        read_to_string(&self.log).unwrap()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGSTOP.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGTERM; gives the exit code.
    pub(crate) fn term(&mut self) -> i32 {
        self.signal(Signal::TERM);
        let ended = || self.child.try_wait().unwrap();
        until("the process ends after SIGTERM", ended)
            .code()
            .expect("it ends by itself")
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL)..];
            eprintln!("-- end of {}:\n{}\n--", self.log.display(), tail.join("\n"));
        }
    }
}

/// A whole daemon with the demo cell, ready for tasks.
pub(crate) struct Daemon {
    process: Process,
    server: Server,
    cell: &'static str,
    _place: Option<Places>,
}

impl Daemon {
    /// Starts a daemon on a data folder, and waits until it is ready.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same with further arguments.
    pub(crate) fn start_with(data: &Path, further: &[&str]) -> Self {
        let place = Places::take(1);
        Self {
            _place: Some(place),
            ..Self::start_placeless(data, further)
        }
    }

    /// The same for a story that holds its places itself.
    pub(crate) fn start_placeless(data: &Path, further: &[&str]) -> Self {
        let port = free_port();
        let mut args = run_args(data, port);
        args.extend(further.iter().map(ToString::to_string));
        let log = data.with_extension(format!("{port}.log"));
        let process = Process::spawn(&args, log);
        let mut daemon = Self {
            process,
            server: Server::new(port),
            cell: if further.contains(&"twogate") {
                "twogate"
            } else {
                "demo"
            },
            _place: None,
        };
        daemon.wait_ready();
        daemon
    }

    /// Waits until it takes tasks.
    pub(crate) fn wait_ready(&mut self) {
        until("the daemon is ready", || {
            assert!(self.process.runs(), "the daemon has ended");
            (self.server.try_get("/readyz")?.status == 200).then_some(())
        });
        // A simulated cell is armed once at start, or latched again; both come after readiness.
        let settled = |mode: &str| mode != "disarmed";
        self.cell().wait_mode("the guard leaves disarmed", settled);
    }

    /// Its API.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Its demo cell.
    pub(crate) fn cell(&self) -> Cell<'_> {
        Cell::named(&self.server, self.cell)
    }

    /// What it has logged by now.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.process.kill();
    }

    /// SIGTERM, which must end it with 0.
    pub(crate) fn term(mut self) {
        assert_eq!(self.process.term(), 0, "a clean end");
    }
}

/// The arguments of a daemon on a folder and a port.
pub(crate) fn run_args(data: &Path, port: u16) -> Vec<String> {
    let (data, bind) = (data.display().to_string(), format!("127.0.0.1:{port}"));
    ["run", "--data", &data, "--bind", &bind]
        .map(str::to_owned)
        .to_vec()
}

/// A folder for one daemon: its data, and its logs beside it.
pub(crate) fn data_in(dir: &TempDir) -> PathBuf {
    dir.path().join("data")
}
