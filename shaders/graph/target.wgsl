// Storing a value in every form that has readers; in place of `shared/target.wgsl`.

struct Target {
    ring: Ring,
    // Its forms, three words of `lists` each.
    first_form: u32,
    forms: u32,
    // The channels that a layer makes of it.
    from_channel: u32,
    to_channel: u32,
}

// The address of a quad of channels of a pixel of an image. The quad counts from the first that the layer makes.
struct Spot {
    row: i32,
    column: i32,
    image: u32,
    quad: u32,
}

// Stores the channels of a quad that are a layer's own. One invocation does, and no other has any of the quad.
fn keep_own(arena: u32, at: u32, value: vec4<f32>, own: vec4<bool>) {
    if all(own) {
        keep(arena, at, value);
    } else {
        keep(arena, at, select(load(arena, at), value, own));
    }
}

// Stores a quad of channels. NaN or infinity, in what is stored or in `gate`, breaks the image, which `health` remembers:
// activations and drivers may turn them into ordinary numbers again.
fn store_forms(node: Target, spot: Spot, value: vec4<f32>, gate: vec4<f32>) {
    let quad = node.from_channel / 4u + spot.quad;
    let channels = vec4(4u * quad) + vec4(0u, 1u, 2u, 3u);
    let own = (channels >= vec4(node.from_channel)) & (channels < vec4(node.to_channel));
    let at = record_at(node.ring, spot.row, spot.column, spot.image) + quad;
    let row = u32(spot.row);
    let column = u32(spot.column);
    var largest = max(magnitude(value), magnitude(gate));
    for (var f = 0u; f < node.forms; f += 1u) {
        let form = form_at(node.first_form + 3u * f);
        var x = value;
        if form.scale.base != NONE {
            x *= additions[addition_at(form.scale, row, column, spot.image) + quad];
        }
        if form.shift.base != NONE {
            x += additions[addition_at(form.shift, row, column, spot.image) + quad];
        }
        largest = max(largest, magnitude(x));
        if form.negate == 1u {
            x = -x;
        }
        keep_own(node.ring.arena, at + form.offset, activated(form.activation, form.slope, x), own);
        if form.activation == CONCAT_ELU {
            keep_own(node.ring.arena, at + form.offset + node.ring.width, elu(-x), own);
        }
    }
    if any(largest >= vec4(INFINITY)) {
        atomicStore(&health.broken[spot.image], 1u);
    }
}
