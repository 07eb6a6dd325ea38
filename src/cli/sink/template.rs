//! Names of files, from a template.

use std::cell::LazyCell;
use std::fmt::Write;
use std::ops::Range;
use std::path::{Component, Path};

use anyhow::{Result, bail, ensure};

use crate::output::file::{folded, ignores_case};

use super::Item;

/// A template of names, such as `{class}_image_{nth:02}.png`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<TemplatePart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Text(String),
    /// With the least number of digits.
    Field(Field, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Index,
    Class,
    ClassIndex,
    Nth,
    Image,
    Completion,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected {index}, {class}, {class_index}, {nth}, {image} or {completion}, where a number may have a width, such as {index:06}";
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(['{', '}']).unwrap_or(rest.len());
            let (plain, from) = rest.split_at(end);
            if !plain.is_empty() {
                parts.push(TemplatePart::Text(plain.to_owned()));
            }
            rest = from;
            if rest.is_empty() {
                break;
            }
            let field = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let (field, after) = field.ok_or("expected a closing brace for each opening one")?;
            let (name, width) = match field.split_once(':') {
                None => (field, Some(0)),
                Some((name, width)) => {
                    let width = width.strip_prefix('0').and_then(|width| width.parse().ok());
                    (name, width.filter(|width| (1..=20).contains(width)))
                }
            };
            let unknown = || format!("{{{field}}}: {EXPECTED}");
            let field = match name {
                "index" => Field::Index,
                "class" if width == Some(0) => Field::Class,
                "class_index" => Field::ClassIndex,
                "nth" => Field::Nth,
                "image" => Field::Image,
                "completion" => Field::Completion,
                _ => return Err(unknown()),
            };
            parts.push(TemplatePart::Field(field, width.ok_or_else(unknown)?));
            rest = after;
        }
        let is_png = Path::new(text).extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
        if !is_png {
            return Err("expected a name that ends in .png".to_owned());
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of an image's file.
    pub fn name(&self, item: &Item) -> String {
        let mut name = String::new();
        for part in &self.parts {
            let (number, width) = match part {
                TemplatePart::Text(text) => {
                    name.push_str(text);
                    continue;
                }
                TemplatePart::Field(Field::Class, _) => {
                    name.push_str(item.class.as_ref().map_or("", |(_, class)| class));
                    continue;
                }
                TemplatePart::Field(Field::Index, width) => (item.index, width),
                TemplatePart::Field(Field::Nth, width) => (item.nth, width),
                TemplatePart::Field(Field::ClassIndex, width) => {
                    (item.class.as_ref().map_or(0, |(index, _)| *index as u64), width)
                }
                TemplatePart::Field(Field::Image, width) => {
                    (item.completes.as_ref().map_or(0, |of| of.image as u64), width)
                }
                TemplatePart::Field(Field::Completion, width) => {
                    (item.completes.as_ref().map_or(0, |of| of.completion as u64), width)
                }
            };
            // Writing to a string does not fail.
            let _ = write!(name, "{number:0width$}");
        }
        name
    }

    /// True if it makes this name, in this folder.
    pub fn makes(
        &self,
        name: &str,
        folder: &Path,
        indices: Range<u64>,
        item: &dyn Fn(u64) -> Item,
    ) -> bool {
        let (wanted, ignores_case) = (folded(name), LazyCell::new(|| ignores_case(folder)));
        if !wanted.ends_with(".png") {
            return false;
        }
        indices
            .map(|index| self.name(&item(index)))
            .any(|made| made == name || folded(&made) == wanted && *ignores_case)
    }

    /// The depth of its files in the folder; 1 is the folder itself.
    pub fn depth(&self) -> usize {
        1 + self.text.matches('/').count()
    }

    /// True if only the numbers of image and completion vary, with more than digits between them.
    fn keeps_completions_apart(&self) -> bool {
        let field = |part: &TemplatePart| {
            if let TemplatePart::Field(field, _) = part { Some(*field) } else { None }
        };
        let is_between = |text: &str| text.contains(|c: char| !c.is_ascii_digit());
        let is_pair = |parts: &[TemplatePart]| {
            matches!(parts, [a, TemplatePart::Text(text), b] if is_between(text)
                && field(a) == Some(Field::Image)
                && field(b) == Some(Field::Completion))
        };
        self.parts.iter().filter_map(field).count() == 2 && self.parts.windows(3).any(is_pair)
    }

    /// Checks the names of all images: each stays in the folder, and no two are one file there.
    pub fn check(&self, folder: &Path, indices: Range<u64>, item: &dyn Fn(u64) -> Item) -> Result<()> {
        let template = &self.text;
        let has =
            |field: Field| self.parts.iter().any(|p| matches!(p, TemplatePart::Field(f, _) if *f == field));
        if indices.is_empty() {
            return Ok(());
        }
        let of_class = has(Field::Class) || has(Field::ClassIndex);
        if of_class && item(indices.start).class.is_none() {
            bail!("--name {template}: the model has no classes (use {{index}})");
        }
        if (has(Field::Image) || has(Field::Completion)) && item(indices.start).completes.is_none() {
            bail!("--name {template}: {{image}} and {{completion}} are of completions (use {{index}})");
        }
        let stays = |index: u64| {
            let item = item(index);
            if let (true, Some((_, class))) = (has(Field::Class), &item.class) {
                let is_name = !class.is_empty() && !class.contains(['/', '\\', ':', '\0']);
                ensure!(
                    is_name,
                    "--name {template}: the class \"{class}\" makes no file name (use {{class_index}})"
                );
            }
            let name = self.name(&item);
            let is_inside = !name.is_empty()
                && Path::new(&name).components().all(|part| matches!(part, Component::Normal(_)));
            ensure!(
                is_inside && !name.ends_with('/'),
                "--name {template}: {name} is not inside the folder of --each"
            );
            Ok(name)
        };
        stays(indices.start)?;
        // One index and nothing else that varies: names differ as indices do.
        let others = [Field::Class, Field::ClassIndex, Field::Nth, Field::Image, Field::Completion];
        if has(Field::Index) && !others.iter().any(|field| has(*field)) || self.keeps_completions_apart() {
            return Ok(());
        }
        indices.clone().try_for_each(|index| stays(index).map(drop))?;
        let name = |index: u64| self.name(&item(index));
        if let Some((first, second)) = same_key(indices.clone(), &|index| folded(name(index)))
            && name(first) != name(second)
            && ignores_case(folder)
        {
            bail!(
                "--name {template}: images {first} and {second} would be {} and {}, which are one file in {}, where \
                the file system ignores case (add {{index}}, or use {{class_index}})",
                name(first),
                name(second),
                folder.display()
            );
        }
        if let Some((first, second)) = same_key(indices, &name) {
            bail!(
                "--name {template}: images {first} and {second} would both be {} (add {{index}}, or {{class}} with \
                {{nth}})",
                name(first)
            );
        }
        Ok(())
    }
}

/// The first two indices that have the same key.
fn same_key(indices: Range<u64>, key: &dyn Fn(u64) -> String) -> Option<(u64, u64)> {
    // Hashes, so that millions of names take little memory.
    let mut hashes: Vec<_> = indices.map(|index| (hash(&key(index)), index)).collect();
    hashes.sort_unstable();
    let is_same = |pair: &&[(u64, u64)]| pair[0].0 == pair[1].0 && key(pair[0].1) == key(pair[1].1);
    hashes.windows(2).find(is_same).map(|pair| (pair[0].1, pair[1].1))
}

fn hash(key: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sink::Completes;

    fn item(index: u64) -> Item {
        let class = index % 12;
        Item {
            index,
            class: Some((class as usize, format!("c{class}"))),
            nth: index / 12 + 1,
            ..Item::default()
        }
    }

    #[test]
    fn names_as_the_template_says() {
        let name = |template: &str| Template::parse(template).unwrap().name(&item(7));
        assert_eq!(name("{index:06}.png"), "000007.png");
        assert_eq!(name("{class}_image_{nth:02}.png"), "c7_image_01.png");
        assert_eq!(name("{class_index}/{index}.PNG"), "7/7.PNG");
        for wrong in [
            "{index}",
            "{index}.jpg",
            "{seed}.png",
            "{index:6}.png",
            "{index:0x}.png",
            "{index:021}.png",
            "{class:03}.png",
            "{index.png",
            "index}.png",
            "",
        ] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_that_clash_or_leave_are_refused() {
        let check =
            |template: &str| Template::parse(template).unwrap().check(Path::new("."), 0..300, &item);
        let completion = |index: u64| {
            let (image, completion) = (index as usize / 20, index as usize % 20);
            let completes = Completes { image, completion, name: String::new(), sha256: String::new() };
            Item { index, completes: Some(completes), ..Item::default() }
        };
        let check_completions =
            |template: &str| Template::parse(template).unwrap().check(Path::new("."), 0..300, &completion);
        for good in ["{image:06}-{completion}.png", "{image}/{completion}.png", "{index}.png"] {
            check_completions(good).unwrap();
        }
        for wrong in
            ["{image}{completion}.png", "{image}1{completion}.png", "{completion}.png", "{class}.png"]
        {
            assert!(check_completions(wrong).is_err(), "{wrong}");
        }
        assert!(check("{image}-{completion}.png").is_err());
        for good in [
            "{index}.png",
            "a/{index}.png",
            "{class}_{nth}.png",
            "{class_index}-{nth}.png",
            "{nth}{class}.png",
        ] {
            check(good).unwrap();
        }
        // The 11th of class 1 and the 1st of class 11 would both be 111.
        for wrong in [
            "all.png",
            "{class}.png",
            "{nth}.png",
            "{class_index}{nth}.png",
            "../{index}.png",
            "/{index}.png",
            "a/../{index}.png",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        Template::parse("all.png").unwrap().check(Path::new("."), 4..5, &item).unwrap();
        let named = |class: &str| {
            let class = class.to_owned();
            let item = move |index| Item {
                index,
                class: Some((0, class.clone())),
                nth: index + 1,
                ..Item::default()
            };
            Template::parse("{class}{nth}.png").unwrap().check(Path::new("."), 0..2, &item)
        };
        named("fine").unwrap();
        assert!(named("a/b").is_err() && named("").is_err());
        let unclassed = |index| Item { index, class: None, nth: index + 1, ..Item::default() };
        assert!(
            Template::parse("{class}{nth}.png").unwrap().check(Path::new("."), 0..2, &unclassed).is_err()
        );
        Template::parse("{nth}.png").unwrap().check(Path::new("."), 0..2, &unclassed).unwrap();
    }
}
