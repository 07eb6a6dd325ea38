//! `pixelcnn merge`: shares of one run become one.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use crate::output::frame::Frame;
use crate::output::stdout;

use super::drawing::FrameArgs;
use super::sink::{Folder, Item, NameArgs, Series, Sink, is_array, text, turns};
use super::{Files, counted, heading, note, recipe};
use part::{Look, MergePart};

mod part;

/// Merge shards into one output
///
/// All shards must come from the same model, seed and settings, and each image must be present exactly once.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct MergeArgs {
    /// Folders from `sample --each`, or .npz files from `sample -o`
    #[arg(required = true, value_name = "DIR|FILE.npz")]
    parts: Vec<PathBuf>,

    /// Output file (.npz, .npy, or .png for a grid), or a folder for one file per image
    ///
    /// - is a PNG file on stdout, -.npy and -.npz are arrays there.
    #[arg(help_heading = heading::OUTPUT)]
    #[arg(short, long, value_name = "OUT", allow_hyphen_values = true)]
    output: PathBuf,

    #[command(flatten)]
    names: NameArgs,

    #[command(flatten)]
    frame: FrameArgs,
}

const EXAMPLES: &str = "\
Examples:
  pixelcnn merge shard0 shard1 -o all.npz";

pub fn run(args: &MergeArgs) -> Result<()> {
    let mut whole = Whole::default();
    for path in &args.parts {
        part::find(path, &mut |part, look| whole.add(part, look))?;
    }
    whole.parts.retain(|part| !part.items.is_empty());
    whole.parts.sort_by_key(MergePart::first);
    let Some(look) = whole.look.take() else { bail!("there are no images in what is to be merged") };
    let indices = whole.indices()?;
    let Some(range) = indices else { bail!("there are no images in what is to be merged") };
    let classes = whole.classes();
    let turns = turns(&classes.iter().map(|(class, _)| *class).collect::<Vec<_>>()).len();
    let series = Series {
        indices: range.clone(),
        width: look.width,
        height: look.height,
        channels: look.channels,
        levels: look.recipe.levels,
        has_classes: !classes.is_empty(),
        turns: classes[..turns].to_vec(),
        completions: None,
    };
    let mut sink = open(args, &series, &whole, &look)?;
    let mut done = 0;
    for part in &whole.parts {
        let mut put = |item: &Item, levels: &[u16], settings: &_| {
            sink.put(item, levels, settings)?;
            done += 1;
            Ok(())
        };
        if let Err(error) = part.read(&look, &mut put) {
            return Err(error.context(format!("after {done} of {}", counted(series.count()))));
        }
    }
    let mut about = whole.agreed(look.texts);
    about.push(("first_index".to_owned(), range.start.to_string()));
    about.push(("count".to_owned(), series.count().to_string()));
    about.push(("channels".to_owned(), series.channels.to_string()));
    if let Sink::Sheet(_, sheet) = &sink {
        recipe::tell_frame(&mut about, sheet.scale(), args.frame.captions);
    }
    let place = sink.finish(&about)?;
    note(&format!("{}, {} to {}: {place}", counted(series.count()), range.start, range.end - 1));
    Ok(())
}

fn open(args: &MergeArgs, series: &Series, whole: &Whole, look: &Look) -> Result<Sink> {
    let path = &args.output;
    let is_stdout = stdout::kind(path).is_some();
    let is_folder = !is_stdout && (path.is_dir() || path.extension().is_none());
    let item = |index: u64| {
        let part = whole.parts.partition_point(|part| part.first() <= index) - 1;
        whole.parts[part].items[(index - whole.parts[part].first()) as usize].clone()
    };
    let template = args.names.template("{index:06}.png");
    let mut files = Files::default();
    whole.parts.iter().for_each(|part| files.reads("part", &part.path));
    args.parts.iter().filter(|part| part.is_dir()).for_each(|folder| files.reads_images_in(folder));
    if !is_folder {
        files.writes("-o", Some(path.as_path()).filter(|_| !is_stdout));
        files.check()?;
        let frame = match is_array(path) {
            true => args.frame.refuse().map(|()| Frame::new(1)),
            false => args.frame.frame(series),
        };
        return Sink::file(path, series, &frame?);
    }
    let indices = &series.indices;
    args.frame.refuse()?;
    files.writes_each("-o", path, |name| template.makes(name, path, indices.clone(), &item));
    files.check()?;
    let folder = Folder::open("-o", path, &template, series, indices.clone(), &item, look.recipe.clone())?;
    if !args.names.overwrite {
        folder.refuse_others(indices, &item, &[], "")?;
    }
    Ok(Sink::Each(folder))
}

/// Everything that is to be merged, as far as it is looked at.
#[derive(Default)]
struct Whole {
    parts: Vec<MergePart>,
    /// The look of the first part, without the texts that differ in others.
    look: Option<Look>,
    engines: BTreeSet<String>,
    /// Keywords of texts that differ.
    differ: BTreeSet<String>,
    /// All images that the runs were for, of which the parts are shares.
    ranges: Vec<Range<u64>>,
}

impl Whole {
    fn add(&mut self, part: MergePart, found: Look) -> Result<()> {
        let first = self.look.get_or_insert_with(|| found.clone());
        let difference = first.recipe.difference(&found.recipe).or(first.same_shape(&found).err());
        if let Some(difference) = difference {
            let path = part.path.display();
            bail!("{path} differs from the other parts: {difference}");
        }
        for (key, value) in &first.texts {
            if text(&found.texts, key) != Some(value) {
                self.differ.insert(key.clone());
            }
        }
        self.engines.extend(text(&found.texts, "engine").map(str::to_owned));
        let bounds = text(&found.texts, "range").and_then(|range| range.split_once('-'));
        if let Some((Ok(start), Ok(last))) = bounds.map(|(a, b)| (a.parse::<u64>(), b.parse::<u64>())) {
            self.ranges.push(start..last.saturating_add(1));
        }
        self.parts.push(part);
        Ok(())
    }

    /// The texts that all parts agree on, and all engines.
    fn agreed(&self, mut texts: Vec<(String, String)>) -> Vec<(String, String)> {
        texts.retain(|(key, _)| !self.differ.contains(key));
        if self.differ.contains("engine") {
            let engines: Vec<_> = self.engines.iter().cloned().collect();
            texts.push(("engine".to_owned(), engines.join(" + ")));
        }
        texts
    }

    /// The classes of the images in order.
    fn classes(&self) -> Vec<(usize, String)> {
        let items = self.parts.iter().flat_map(|part| &part.items);
        items.filter_map(|item| item.class.clone()).collect()
    }

    /// The indices of all images, of which none may be missing or twice.
    fn indices(&self) -> Result<Option<Range<u64>>> {
        let bounds = self.parts.iter().map(MergePart::indices).chain(self.ranges.iter().cloned());
        let Some(range) = bounds.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)) else {
            return Ok(None);
        };
        let (mut missing, mut twice) = (Vec::new(), Vec::new());
        // The first files that hold the same image.
        let mut files = None;
        let (mut next, mut reaches) = (range.start, None::<&MergePart>);
        for part in &self.parts {
            let indices = part.indices();
            if indices.start > next {
                missing.push(next..indices.start);
            } else if indices.start < next {
                twice.push(indices.start..indices.end.min(next));
                files = files.or_else(|| Some((reaches?, part)));
            }
            if indices.end > next {
                (next, reaches) = (indices.end, Some(part));
            }
        }
        if next < range.end {
            missing.push(next..range.end);
        }
        let mut problems = Vec::new();
        for (what, ranges) in [("missing", missing), (TWICE, twice)] {
            if !ranges.is_empty() {
                let count: u64 = ranges.iter().map(|range| range.end - range.start).sum();
                let are = if count == 1 { "image is" } else { "images are" };
                let of_files = files.filter(|_| what == TWICE).map_or(String::new(), |(one, other)| {
                    format!(" ({} and {})", one.path.display(), other.path.display())
                });
                problems.push(format!("{count} {are} {what}: {}{of_files}", listed(&ranges)));
            }
        }
        ensure!(problems.is_empty(), "{}; merge needs every part of a run, once", problems.join("; "));
        Ok(Some(range))
    }
}

/// Images that two files hold are so.
const TWICE: &str = "in two parts";

/// Indices for a message: the first ranges, if there are many.
fn listed(ranges: &[Range<u64>]) -> String {
    const SHOWN: usize = 20;
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range.clone()),
        }
    }
    let shown = |range: &Range<u64>| match range.end - range.start {
        1 => range.start.to_string(),
        _ => format!("{}-{}", range.start, range.end - 1),
    };
    let list = joined.iter().take(SHOWN).map(shown).collect::<Vec<_>>().join(", ");
    match joined.len().checked_sub(SHOWN) {
        None | Some(0) => list,
        Some(more) => format!("{list}, and {more} more"),
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "lists of ranges are meant")]
mod tests {
    use super::*;

    fn whole(parts: &[Range<u64>], ranges: &[Range<u64>]) -> Result<Option<Range<u64>>> {
        let part = |indices: &Range<u64>| MergePart {
            path: format!("{}-{}", indices.start, indices.end).into(),
            is_array: true,
            items: indices.clone().map(|index| Item { index, nth: index + 1, ..Item::default() }).collect(),
        };
        let parts = parts.iter().map(part).collect();
        Whole { parts, ranges: ranges.to_vec(), ..Whole::default() }.indices()
    }

    #[test]
    fn what_is_missing_or_twice_is_listed() {
        assert_eq!(whole(&[0..3, 3..4, 4..9], &[0..9]).unwrap(), Some(0..9));
        assert_eq!(whole(&[5..6], &[]).unwrap(), Some(5..6));
        assert_eq!(whole(&[], &[]).unwrap(), None);
        let said = |parts: &[Range<u64>]| whole(parts, &[0..9, 3..12]).unwrap_err().to_string();
        assert_eq!(
            said(&[1..4, 5..6, 8..9]),
            "7 images are missing: 0, 4, 6-7, 9-11; merge needs every part of a run, once"
        );
        assert_eq!(
            said(&[0..4, 3..8, 8..12]),
            "1 image is in two parts: 3 (0-4 and 3-8); merge needs every part of a run, once"
        );
        assert_eq!(
            said(&[0..8, 2..3, 3..5, 9..12]),
            "1 image is missing: 8; 3 images are in two parts: 2-4 (0-8 and 2-3); merge needs every part of a run, once"
        );
    }
}
