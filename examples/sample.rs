//! Draws ten digits: `cargo run --release --example sample`.

use pixelcnn::{CpuEngine, Engine, Error, Model, Request};

fn main() -> Result<(), Error> {
    let model = Model::shipped("mnist").expect("it is built in")?;
    let (width, height) = model.size();
    let mut engine = CpuEngine::new(&model, width, height, 2);
    let request = Request::sample(engine.shape(), 0, (0..10).map(|i| (i, Some(i as usize))))?;
    let images = engine.run(&request, &mut |_| {})?;
    for row in images.levels.chunks(width) {
        println!("{}", row.iter().map(|&level| if level > 127 { '#' } else { '.' }).collect::<String>());
    }
    Ok(())
}
