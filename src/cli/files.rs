//! The rule for the files of a call: no output is a file that is read, or another output. Files are the same by what they
//! are, and not by how their names are spelled.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::output::file::Place;

/// The files that a call reads, and those that it is to write.
#[derive(Default)]
pub struct Files<'a> {
    read: Vec<(&'static str, PathBuf)>,
    folders: Vec<PathBuf>,
    written: Vec<(&'static str, &'a Path)>,
    each: Option<Each<'a>>,
}

/// A folder for many files.
struct Each<'a> {
    flag: &'static str,
    folder: &'a Path,
    /// True for a name in the folder that is one of theirs.
    is_one: Box<dyn Fn(&str) -> bool + 'a>,
}

impl<'a> Files<'a> {
    /// A file is read; `what` is a flag, or another word for it.
    pub fn reads(&mut self, what: &'static str, path: &Path) {
        self.read.push((what, path.to_owned()));
    }

    /// All images in a folder are read.
    pub fn reads_images_in(&mut self, folder: &Path) {
        if self.folders.last().is_none_or(|last| last != folder) {
            self.folders.push(folder.to_owned());
        }
    }

    /// A flag names an output; - is stdout.
    pub fn writes(&mut self, flag: &'static str, path: Option<&'a Path>) {
        self.written.extend(path.filter(|path| *path != Path::new("-")).map(|path| (flag, path)));
    }

    /// A flag names a folder for many outputs; `is_one` tells their names from others.
    pub fn writes_each(
        &mut self,
        flag: &'static str,
        folder: &'a Path,
        is_one: impl Fn(&str) -> bool + 'a,
    ) {
        self.each = Some(Each { flag, folder, is_one: Box::new(is_one) });
    }

    /// Fails if an output is a file that is read, or another output. To be called before anything is written.
    pub fn check(&self) -> Result<()> {
        // A file without a place cannot be written either, and is an error of its own.
        let places: Vec<_> = self
            .written
            .iter()
            .filter_map(|&(flag, path)| Some((flag, path, Place::of(path).ok()?)))
            .collect();
        for (number, (flag, path, place)) in places.iter().enumerate() {
            if let Some((other, first, _)) =
                places[..number].iter().find(|(.., first)| first.is_same(place))
            {
                bail!(
                    "{flag} {}: is the same file as {other} {} (choose another name for one of them)",
                    path.display(),
                    first.display()
                );
            }
        }
        if !places.is_empty() {
            let mut last = None;
            for (what, input) in &self.read {
                // All images of an array are in one file.
                if last.replace(input) == Some(input) {
                    continue;
                }
                let Ok(input_place) = Place::of(input) else { continue };
                if let Some((flag, path, _)) = places.iter().find(|(.., place)| place.is_same(&input_place))
                {
                    bail!(
                        "{flag} {}: is the same file as {what} {}, which is read (choose another name)",
                        path.display(),
                        input.display()
                    );
                }
            }
        }
        self.each.as_ref().map_or(Ok(()), |each| self.check_each(each))
    }

    fn check_each(&self, each: &Each) -> Result<()> {
        let &Each { flag, folder, ref is_one } = each;
        let Ok(place) = Place::of(folder) else { return Ok(()) };
        let is_here = |path: &PathBuf| Place::of(path).is_ok_and(|other| other.is_same(&place));
        if self.folders.iter().any(is_here) {
            bail!(
                "{flag} {}: is a folder whose images are read, and others would be mixed with them (choose another \
                folder)",
                folder.display()
            );
        }
        let is_one =
            |path: &Path| place.name_below(path).is_some_and(|name| name.to_str().is_some_and(is_one));
        if let Some((other, path)) = self.written.iter().find(|(_, path)| is_one(path)) {
            bail!(
                "{other} {}: is the same file as an image of {flag} {} (choose another name)",
                path.display(),
                folder.display()
            );
        }
        if let Some((what, path)) = self.read.iter().find(|(_, path)| is_one(path)) {
            bail!(
                "{flag} {}: an image of it is the same file as {what} {}, which is read (choose another folder)",
                folder.display(),
                path.display()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn outputs_are_no_inputs_and_differ() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("images")).unwrap();
        fs::write(at("images/in.png"), "").unwrap();
        let check = |outputs: &[&str], each: Option<&str>| {
            let (outputs, each): (Vec<_>, _) =
                (outputs.iter().map(|name| at(name)).collect(), each.map(at));
            let mut files = Files::default();
            files.reads("image", &at("images/in.png"));
            files.reads_images_in(&at("images"));
            outputs.iter().for_each(|path| files.writes("-o", Some(path)));
            if let Some(each) = &each {
                files.writes_each("--each", each, |name| name == "0.png" || name == "in.png");
            }
            files.check().map_err(|error| error.to_string())
        };
        for (outputs, each) in [
            (&["a.png", "b.png", "images/new.png"][..], None),
            (&[], Some("q")),
            (&["q/1.png", "0.png"], Some("q")),
            (&["q/r/0.png"], Some("q")),
            (&["images/q/1.png"], Some("images/q")),
        ] {
            check(outputs, each).unwrap();
        }
        for (outputs, each, said) in [
            (&["images/../images/in.png"][..], None, "which is read"),
            (&["a.png", "./a.png"], None, "is the same file as -o"),
            (&["a.png", "b.png", "images/../b.png"], None, "is the same file as -o"),
            (&["./q/0.png"], Some("q"), "is the same file as an image of --each"),
            (&[], Some("images/../images"), "is a folder whose images are read"),
            (&["images/q/in.png"], Some("images/q"), "is the same file as an image"),
        ] {
            let error = check(outputs, each).unwrap_err();
            assert!(error.contains(said), "{outputs:?} {each:?}: {error}");
        }
    }
}
