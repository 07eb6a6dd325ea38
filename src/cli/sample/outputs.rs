//! Where everything goes that `pixelcnn sample` makes.

use std::ops::Range;

use anyhow::Result;

use crate::head;
use crate::output::grid::Drawing;
use crate::output::shades;

use super::plan::Plan;
use super::scores::Scores;
use super::{Args, images_in};
use crate::cli::driver::Done;
use crate::cli::target::{Folder, Target, Texts};
use crate::cli::{Files, counted};

/// Fails if an output is a file that is read, or another output.
pub fn check_files(args: &Args, plan: &Plan) -> Result<()> {
    let mut files = Files::default();
    args.model.add_to(&mut files);
    match &args.each {
        None => files.writes("-o", Some(&args.output)),
        Some(path) => {
            files.writes_each("--each", path, |name| {
                args.name.makes(name, path, plan.whole.clone(), &|index| plan.item(index))
            });
        }
    }
    files.writes("--animate", args.show.animate.as_deref());
    files.writes("--scores", args.scores.as_deref());
    files.check()
}

/// Where everything goes that is made.
pub struct Outputs {
    pub target: Target,
    drawing: Option<Drawing>,
    pub scores: Option<Scores>,
}

impl Outputs {
    pub fn open(args: &Args, plan: &Plan) -> Result<Self> {
        let series = plan.series();
        if args.show.animate.is_some() {
            series.check_picture()?;
        }
        let target = match &args.each {
            None => Target::file(&args.output, &series, args.show.scale)?,
            Some(path) => {
                let item = |index| plan.item(index);
                let (name, whole, recipe) = (&args.name, plan.whole.clone(), plan.recipe.clone());
                let folder = Folder::open("--each", path, name, &series, whole, &item, recipe)?;
                folder.make_for([&args.show.animate, &args.scores].into_iter().flatten())?;
                Target::Each(folder)
            }
        };
        let grid = args.show.animate.as_ref().and_then(|_| series.grid());
        let drawing = args.show.begin(grid.as_ref())?;
        Ok(Self { target, drawing, scores: Scores::begin(args.scores.as_deref())? })
    }

    /// Takes an image; `settings` are those it was drawn with.
    pub fn put(&mut self, plan: &Plan, done: Done, settings: &Texts, batch: usize) -> Result<()> {
        let Done { index, levels, log_likelihood, .. } = done;
        if let Some(drawing) = &mut self.drawing {
            let position = (index - plan.indices.start) as usize;
            // All images of a batch are drawn in step.
            let before = position / batch * plan.width * plan.height;
            let shades = shades(&levels, plan.model.head().levels());
            drawing.place(position, plan.width, &shades, |pixel| before + pixel + 1);
        }
        let item = plan.item(index);
        let Some(scores) = &mut self.scores else {
            return self.target.put(&item, &levels, settings).map(drop);
        };
        let bits = head::bits_per_dim(&log_likelihood, plan.model.head().channels());
        let file = self.target.put(&item, &levels, &[settings, &[bits_text(bits)]].concat())?;
        scores.put(index, item.class.as_ref().map(|(_, name)| name.as_str()), bits, &file)
    }

    /// Images that were written and are missing, for their folder has vanished.
    pub fn vanished(&mut self, plan: &Plan) -> Result<Vec<Range<u64>>> {
        let Target::Each(folder) = &mut self.target else { return Ok(Vec::new()) };
        if folder.take_vanished() == 0 {
            return Ok(Vec::new());
        }
        let item = |index| plan.item(index);
        let found = folder.resume(plan.indices.clone(), &item, true)?;
        let place = folder.path().display();
        let again = counted(images_in(&found.missing));
        crate::cli::say(&format!(
            "warning: {place} vanished while images were drawn; {again} are drawn again"
        ));
        Ok(found.missing)
    }

    /// Writes what is not written yet, and says where the images are. `about` tells of all of them.
    pub fn finish(self, args: &Args, about: &Texts) -> Result<String> {
        let mut about = about.to_vec();
        about.extend(self.scores.as_ref().map(|scores| bits_text(scores.mean())));
        let mut place = String::new();
        crate::cli::all([
            self.target.finish(&about).map(|at| place = at),
            self.scores.map_or(Ok(()), Scores::finish),
            args.show.finish(self.drawing.as_ref(), &about),
        ])?;
        Ok(place)
    }
}

fn bits_text(bits: f64) -> (String, String) {
    ("bits_per_dim".to_owned(), format!("{bits:.6}"))
}
