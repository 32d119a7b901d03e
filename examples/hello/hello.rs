//! The same in Rust, as a WASI command:
//!
//!     rustup target add wasm32-wasip1
//!     rustc --target wasm32-wasip1 -O hello.rs -o hello-rs.wasm

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(index) = std::env::args().nth(1) else {
        eprintln!("usage: hello INDEX");
        return ExitCode::from(2);
    };
    let greeting = format!("hello from task {index}\n");
    print!("{greeting}");
    if let Err(error) = std::fs::write("/out/hello.txt", greeting) {
        eprintln!("/out/hello.txt: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
