//! Sums of which padding is a large part: one product for each tap.

use super::{Net, ints};

/// Convolutions whose channels are innermost, and as they come; how many products each takes.
#[test]
fn large_dilations_are_products_of_what_is_inside() {
    for (image, channels, taps, dilation, pads, strides, products) in [
        ([11, 13], [130, 20], [3, 3], 9, [9; 4], [1, 1], 9),
        ([11, 13], [128, 33], [3, 3], 16, [16; 4], [1, 1], 1),
        ([4, 12], [129, 16], [3, 5], 5, [5, 10, 5, 10], [1, 1], 5),
        ([2, 2], [140, 18], [3, 3], 1, [1; 4], [1, 1], 9),
        ([9, 10], [128, 7], [3, 3], 7, [7, 6, 5, 7], [2, 3], 6),
        ([3, 3], [128, 7], [2, 2], 4, [4, 4, 0, 0], [1, 1], 1),
    ] {
        for innermost in [true, false] {
            let mut net = Net::new();
            let [from, to] = channels;
            let x = net.input(&[2, if innermost { 5 } else { from }, image[0], image[1]]);
            let mut y = x;
            if innermost {
                let w = net.weight(&[from, 5, 1, 1]);
                y = net.op("Conv", &[x, w], &[]);
            }
            let (w, b) = (net.weight(&[to, from, taps[0], taps[1]]), net.weight(&[to]));
            let attributes = [("pads", ints(&pads)), ("dilations", ints(&[dilation; 2])), ("strides", ints(&strides))];
            y = net.op("Conv", &[y, w, b], &attributes);
            y = net.op("Sigmoid", &[y], &[]);
            if innermost {
                let w = net.weight(&[3, to, 1, 1]);
                y = net.op("Conv", &[y, w], &[]);
            }
            let compiled = net.check(&[y]);
            let schedules: Vec<&String> = compiled.program.kernels.iter().map(|k| &k.schedule).collect();
            let wanted = format!("taps({products})");
            assert!(schedules.iter().any(|s| s.contains(&wanted)), "{image:?} {dilation}: {schedules:?}");
        }
    }
}
