//! Pictures on a terminal, which is a pseudo-terminal here.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::ptr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::shell::{Shell, read_png};

/// A terminal of 80 columns and 24 rows: our end, and that of a program.
fn terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (0, 0);
    let mut size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    // Some systems want a pointer to what may change.
    let size = ptr::from_mut(&mut size);
    // SAFETY: it writes two descriptors, which are nobody else's.
    unsafe {
        assert_eq!(libc::openpty(&mut ours, &mut theirs, ptr::null_mut(), ptr::null_mut(), size), 0);
        (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
    }
}

/// What a line of words shows on a terminal of these environment variables alone; what it says on stderr is not shown.
fn shown(shell: &Shell, line: &str, variables: &[(&str, &str)]) -> String {
    let (mut ours, theirs) = terminal();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixelcnn"));
    for name in ["TMUX", "STY", "TERM_PROGRAM", "LC_TERMINAL", "KONSOLE_VERSION", "COLORTERM"] {
        command.env_remove(name);
    }
    command.args(line.split(' ')).current_dir(shell.folder.path()).envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(theirs).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // It holds their end of the terminal, which is to close with the program.
    drop(command);
    let mut bytes = Vec::new();
    // A terminal that nobody holds any more ends with an error.
    let _ = ours.read_to_end(&mut bytes);
    assert!(child.wait().unwrap().success(), "{line}");
    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}

const KITTY: &[(&str, &str)] = &[("TERM", "xterm-kitty")];
const PLAIN: &[(&str, &str)] = &[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")];

#[test]
fn a_terminal_with_graphics_shows_what_was_drawn() {
    let shell = Shell::new();
    let draw = "sample -m grey.safetensors -n 4 --device cpu";
    let text = shown(&shell, draw, KITTY);
    assert!(text.starts_with("\x1b_Ga=T,f=100,q=2,c="), "{text:?}");
    let pieces = text.trim_end().split_terminator("\x1b\\").map(|piece| piece.split_once(';').unwrap().1);
    let file = BASE64_STANDARD.decode(pieces.collect::<String>()).unwrap();
    let shown_picture = image::load_from_memory(&file).unwrap().into_rgb8();
    assert!(shown_picture == read_png(&shell.path("samples.png")).0);

    // Nobody asked, or the terminal is not known for it.
    for (flags, variables) in [
        (" -o x.png", KITTY),
        (" --quiet", KITTY),
        (" --each each", KITTY),
        (" -o x.npz", KITTY),
        ("", PLAIN),
    ] {
        assert_eq!(shown(&shell, &format!("{draw}{flags}"), variables), "", "{flags}");
    }
    let iterm = shown(
        &shell,
        &format!("{draw} --show -o x.png"),
        &[("TERM", "xterm"), ("TERM_PROGRAM", "iTerm.app")],
    );
    assert!(iterm.starts_with("\x1b]1337;File=inline=1;"), "{iterm:?}");
    let sixels = shown(&shell, draw, &[("TERM", "foot")]);
    assert!(sixels.starts_with("\x1bP0;1;0q") && sixels.ends_with("-\x1b\\\n"), "{sixels:?}");
}

#[test]
fn other_terminals_show_half_blocks_when_asked() {
    let shell = Shell::new();
    let text =
        shown(&shell, "sample -m rgb.safetensors -n 4 --scale 1 --device cpu --show -o x.png", PLAIN);
    let (picture, _) = read_png(&shell.path("x.png"));
    assert_eq!(text.lines().count() as u32, picture.height().div_ceil(2));
    let [r, g, b] = picture.get_pixel(0, 0).0;
    let [r2, g2, b2] = picture.get_pixel(0, 1).0;
    assert!(text.starts_with(&format!("\x1b[38;2;{r};{g};{b};48;2;{r2};{g2};{b2}m▀")), "{text:?}");

    let text = shown(&shell, "inspect x.png --show", PLAIN);
    assert!(text.contains('▀') && text.contains("\nmodel_sha256"), "{text:?}");
    shell.ok("sample -m rgb.safetensors -n 1 --device cpu --each one");
    let text = shown(&shell, "complete one -m rgb.safetensors --rows 2 -n 1 --device cpu --show", PLAIN);
    assert!(text.contains('▀') && shell.path("completions.png").exists(), "{text:?}");
    let text = shown(&shell, "models --show", PLAIN);
    assert!(
        text.starts_with("avatars\n\x1b[") && text.contains("\nmnist\n\x1b[") && text.contains("\nMODEL ")
    );
    assert_eq!(shown(&shell, "inspect x.png --show", &[("TERM", "dumb")]).find('▀'), None);
}

#[test]
fn pipes_get_no_pictures() {
    let shell = Shell { environment: vec![("TERM", "xterm-kitty".to_owned())], ..Shell::new() };
    let draw = "sample -m grey.safetensors -n 2 --device cpu";
    assert_eq!(shell.ok(draw).stdout, "");
    let outcome = shell.ok(&format!("{draw} --show"));
    assert_eq!(outcome.stdout, "");
    assert!(outcome.stderr.contains("note: --show: stdout is no terminal"), "{}", outcome.stderr);
    assert!(!shell.ok("inspect samples.png --show").stdout.contains('\x1b'));
    let said = shell.error(&format!("{draw} --show -o x.npz"));
    assert!(said.contains("--show: shows a grid, and an array has none"), "{said}");
    shell.error(&format!("{draw} --show --each x"));
}
