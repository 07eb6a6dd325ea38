//! Confusion matrices: how often images of each class were predicted to be of each, as a table and as a picture.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::{Area, Chart, Drawn, UNNAMED, columns, cut, label};

/// Columns of a name; longer ones are cut.
const LONGEST: i32 = 24;

/// The number of images of each class that were taken for each class.
#[derive(Debug)]
pub struct Confusion {
    /// The name of the model.
    model: String,
    names: Vec<String>,
    /// By class, then by what its images were taken for.
    pub counts: Vec<Vec<usize>>,
}

impl Confusion {
    /// Counts pairs of an image's class, if it is known, and what a model with these classes took it for; none if no class
    /// is known.
    pub fn of(
        model: &str,
        images: impl Iterator<Item = (Option<usize>, usize)>,
        names: &[String],
    ) -> Option<Self> {
        let mut counts = vec![vec![0; names.len()]; names.len()];
        let mut any = false;
        for (class, predicted) in images.filter_map(|(class, predicted)| Some((class?, predicted))) {
            counts[class][predicted] += 1;
            any = true;
        }
        let (model, names) = (model.to_owned(), names.to_vec());
        any.then_some(Self { model, names, counts })
    }

    /// The share of images that were classified correctly.
    pub fn accuracy(&self) -> f64 {
        let right: usize = (0..self.names.len()).map(|class| self.counts[class][class]).sum();
        right as f64 / self.counts.iter().flatten().sum::<usize>() as f64
    }

    /// The same of each class; none of a class without images.
    pub fn accuracy_of_classes(&self) -> Vec<Option<f64>> {
        let of_class = |(class, counts): (usize, &Vec<usize>)| {
            let all: usize = counts.iter().sum();
            (all > 0).then(|| counts[class] as f64 / all as f64)
        };
        self.counts.iter().enumerate().map(of_class).collect()
    }

    /// A row a class: its images by what they were taken for, and how many of them rightly.
    pub fn table(&self) -> Vec<Vec<String>> {
        let header =
            ["class".to_owned()].into_iter().chain(self.names.iter().cloned()).chain(["right".to_owned()]);
        let row = |((name, counts), right): ((&String, &Vec<usize>), Option<f64>)| {
            let right = right.map_or("-".to_owned(), |right| format!("{:.1} %", 100.0 * right));
            let counts = counts.iter().map(usize::to_string);
            [name.clone()].into_iter().chain(counts).chain([right]).collect()
        };
        let rows = self.names.iter().zip(&self.counts).zip(self.accuracy_of_classes()).map(row);
        [header.collect()].into_iter().chain(rows).collect()
    }

    fn title(&self) -> String {
        let known: usize = self.counts.iter().flatten().sum();
        let (model, right) = (label(&self.model, UNNAMED), 100.0 * self.accuracy());
        format!("{model}: {right:.1} % of {known} images are classified correctly")
    }

    /// Pixels of a cell: smaller ones where there are many.
    fn cell(&self) -> i32 {
        (1200 / self.names.len() as i32).clamp(24, 96)
    }

    /// Pixels on the left and at the top, for names.
    fn margin(&self) -> i32 {
        let longest = self.names.iter().map(|name| columns(name)).max().unwrap_or(0);
        90 + 11 * longest.min(LONGEST)
    }
}

impl Chart for Confusion {
    fn size(&self) -> (u32, u32) {
        let side = (self.cell() * self.names.len() as i32) as u32;
        let margin = self.margin() as u32;
        let title = 40 + 13 * columns(&self.title()) as u32;
        ((margin + side + 60).max(title), 110 + side + 60)
    }

    fn names(&self) -> Vec<(String, String)> {
        let classes = self.names.iter().enumerate().map(|(class, name)| (class.to_string(), name.clone()));
        [(UNNAMED.to_owned(), self.model.clone())].into_iter().chain(classes).collect()
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Drawn<B> {
        area.fill(&WHITE)?;
        let (cell, left, top) = (self.cell(), self.margin(), 110);
        let text = |size: i32, color: &RGBColor, side: HPos| {
            ("sans-serif", size).into_font().color(color).pos(Pos::new(side, VPos::Center))
        };
        area.draw_text(&self.title(), &text(24, &BLACK, HPos::Left), (20, 30))?;
        let axes = "rows: classes of images; columns: predicted classes";
        area.draw_text(axes, &text(16, &BLACK, HPos::Left), (20, 60))?;
        let size = (cell * 2 / 5).clamp(10, 22);
        let names: Vec<_> =
            self.names.iter().enumerate().map(|(class, name)| label(name, &class.to_string())).collect();
        // Names and numbers that would not fit are left out.
        let fits = |name: &str| columns(name) * size * 11 / 20 <= cell;
        for (class, counts) in self.counts.iter().enumerate() {
            let y = top + cell * class as i32;
            let middle = |i: usize| left + cell * i as i32 + cell / 2;
            let name = cut(&names[class], LONGEST);
            area.draw_text(name, &text(size, &BLACK, HPos::Right), (left - 12, y + cell / 2))?;
            if fits(&names[class]) {
                area.draw_text(
                    &names[class],
                    &text(size, &BLACK, HPos::Center),
                    (middle(class), top - 16),
                )?;
            }
            let all = counts.iter().sum::<usize>().max(1);
            for (predicted, &count) in counts.iter().enumerate() {
                let share = count as f64 / all as f64;
                let blend = |full: u8| (255.0 - (255.0 - f64::from(full)) * share) as u8;
                let color = match class == predicted {
                    true => RGBColor(blend(0), blend(90), blend(170)),
                    false => RGBColor(blend(200), blend(80), blend(0)),
                };
                let x = left + cell * predicted as i32;
                let corners = [(x, y), (x + cell - 2, y + cell - 2)];
                area.draw(&Rectangle::new(corners, color.filled()))?;
                let number = count.to_string();
                if count > 0 && fits(&number) {
                    let ink = if share > 0.5 { WHITE } else { BLACK };
                    let at = (middle(predicted), y + cell / 2);
                    area.draw_text(&number, &text(size, &ink, HPos::Center), at)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_is_of_the_images_whose_class_is_known() {
        let names = ["cat", "dog", "emu"].map(String::from);
        let images = [(Some(0), 0), (Some(0), 1), (Some(1), 1), (None, 2), (Some(0), 0)];
        let confusion = Confusion::of("m", images.into_iter(), &names).unwrap();
        assert_eq!(confusion.counts, [[2, 1, 0], [0, 1, 0], [0, 0, 0]]);
        assert_eq!(confusion.accuracy(), 0.75);
        assert_eq!(confusion.accuracy_of_classes(), [Some(2.0 / 3.0), Some(1.0), None]);
        assert!(Confusion::of("m", [(None, 1)].into_iter(), &names).is_none());
    }
}
