//! The program: joins the terminal, the node and its API.

use std::process::ExitCode;

use freehold::cli::{self, RunOptions, Wish};
use freehold::model::{Code, Problem};
use freehold::node::{self, Node, Signer, StartOptions};
use freehold::{api, model::Json};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Scripts inside scripts want room; what is not used is never touched.
const STACK: usize = 64 * 1024 * 1024;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(STACK)
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(carry_out(arguments)),
        Err(error) => Err(Problem::new(Code::Internal, error.to_string())),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            cli::print_problem(&problem, json);
            ExitCode::from(problem.code.exit())
        }
    }
}

async fn carry_out(arguments: Vec<std::ffi::OsString>) -> Result<u8, Problem> {
    match cli::run(arguments).await? {
        Wish::Exit(code) => Ok(code),
        Wish::Run(options) => run(options).await.map(|()| 0),
        Wish::Rekey { home, words, json } => {
            let signer = words.map_or(Signer::Key, Signer::Words);
            cli::print_done("rekey", json, &node::rekey(&home, &signer)?);
            Ok(0)
        }
        Wish::Restore { home, file, json } => {
            cli::print_done("restore", json, &node::restore(&home, &file)?);
            Ok(0)
        }
    }
}

fn log(options: &RunOptions) {
    let level = match (options.quiet, options.verbose) {
        (true, _) => "error",
        (false, 0) => "warn,freehold=warn",
        (false, 1) => "warn,freehold=info",
        (false, _) => "info,freehold=debug",
    };
    let filter = EnvFilter::try_from_env("FREEHOLD_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

async fn run(options: RunOptions) -> Result<(), Problem> {
    log(&options);
    let node = Node::start(StartOptions {
        home: options.home,
        listen: options.listen,
        bootstrap: options.bootstrap,
        name: options.name,
        api: options.api.clone(),
    })
    .await?;
    let serving = match api::serve(node.clone(), options.api.as_deref()).await {
        Ok(serving) => serving,
        Err(error) => {
            node.shut_down().await;
            return Err(cannot_serve(&error));
        }
    };
    node.publish_api(&serving.base)
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let ready: Json = serde_json::json!({
        "peer_id": node.peer_id(),
        "server_id": node.server(),
        "listen": node.listen(),
        "api": serving.base,
        "pid": std::process::id(),
    });
    cli::print_ready(options.json, &ready);
    wait_for_the_end(&node).await?;
    node.ask_to_stop();
    node.shut_down().await;
    Ok(())
}

fn cannot_serve(error: &api::ServeError) -> Problem {
    let says = error.to_string();
    match error {
        api::ServeError::InUse(_) => Problem::new(Code::AddressInUse, says)
            .hint("name another with --api, or none for any port"),
        api::ServeError::BadAddress(_) | api::ServeError::NotLoopback(_) => {
            Problem::new(Code::Usage, says)
        }
        api::ServeError::Io(_) => Problem::new(Code::Internal, says),
    }
}

async fn wait_for_the_end(node: &Node) -> Result<(), Problem> {
    let failed = |error: std::io::Error| Problem::new(Code::Internal, error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = node.asked_to_stop() => {}
    }
    Ok(())
}
