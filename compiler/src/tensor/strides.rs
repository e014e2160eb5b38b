//! Strides: dense ones in any physical order, and those of a re-shaped strided value.

/// Strides of a dense value whose axes lie in the physical order `order`, outermost first.
pub fn dense_strides(dims: &[usize], order: &[usize]) -> Vec<i64> {
    let mut strides = vec![0; dims.len()];
    let mut stride = 1;
    for &axis in order.iter().rev() {
        strides[axis] = stride;
        stride *= dims[axis].max(1) as i64;
    }
    strides
}

/// Strides of the same elements, row-major, under extents `to`; `None` where only a copy could have them.
pub fn reshape_strides(from: &[usize], strides: &[i64], to: &[usize]) -> Option<Vec<i64>> {
    if from.iter().product::<usize>() != to.iter().product::<usize>() {
        return None;
    }
    let mut result = vec![0; to.len()];
    if from.contains(&0) {
        return Some(result);
    }
    // Unit axes have no stride that matters.
    let source: Vec<(usize, i64)> = from.iter().zip(strides).filter(|(d, _)| **d != 1).map(|(&d, &s)| (d, s)).collect();
    let target: Vec<usize> = (0..to.len()).filter(|&i| to[i] != 1).collect();
    let (mut s, mut t) = (0, 0);
    while s < source.len() && t < target.len() {
        let (s0, t0) = (s, t);
        let (mut have, mut want) = (source[s].0, to[target[t]]);
        while have != want {
            if have < want {
                s += 1;
                have *= source[s].0;
            } else {
                t += 1;
                want *= to[target[t]];
            }
        }
        for i in s0..s {
            if source[i].1 != source[i + 1].1 * source[i + 1].0 as i64 {
                return None;
            }
        }
        let mut stride = source[s].1;
        for &axis in target[t0..=t].iter().rev() {
            result[axis] = stride;
            stride *= to[axis] as i64;
        }
        s += 1;
        t += 1;
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::{dense_strides, reshape_strides};

    #[test]
    fn channels_last_merges_its_spatial_axes() {
        let strides = dense_strides(&[1, 384, 14, 14], &[0, 2, 3, 1]);
        assert_eq!(strides, [75264, 1, 5376, 384]);
        assert_eq!(reshape_strides(&[1, 384, 14, 14], &strides, &[1, 384, 196]), Some(vec![0, 1, 384]));
        assert_eq!(reshape_strides(&[1, 384, 14, 14], &strides, &[1, 75264]), None);
    }

    #[test]
    fn dense_values_split_and_merge() {
        assert_eq!(reshape_strides(&[2, 12], &[12, 1], &[4, 6]), Some(vec![6, 1]));
        assert_eq!(reshape_strides(&[2, 3, 4], &[12, 4, 1], &[6, 1, 4]), Some(vec![4, 0, 1]));
        assert_eq!(reshape_strides(&[1, 1], &[1, 1], &[]), Some(vec![]));
    }
}
