//! `pixelcnn`, the program: the command line of the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pixelcnn::cli::main(std::env::args_os())
}
