//! Breadth-first search.

use tiermem_topology::Topology;

use super::{Outcome, Random, Run, Setting};

/// Searches a random graph of `vertices` vertices with `degree` edges each from vertex 0, level by level. The graph is
/// stored as rows of edges (CSR). The row of a vertex is waited for; of its edges, each decides with the mark of its end
/// whether that vertex is new, and the marks of different edges overlap. An operation is an edge. `None` if the setting
/// cannot be modelled.
pub fn bfs(topology: &Topology, setting: &Setting, vertices: usize, degree: usize) -> Option<Outcome> {
    let mut random = Random::new(5);
    #[expect(clippy::cast_possible_truncation, reason = "below `vertices`")]
    let edges: Vec<u32> = (0..vertices * degree).map(|_| random.below(vertices as u64) as u32).collect();
    let mut run = Run::new(topology, setting)?;
    let [rows, ends, marks, queue] = [8 * vertices, 4 * edges.len(), 4 * vertices, 4 * vertices]
        .map(|bytes| run.machine.place(setting.tier, bytes as u64).base);
    let mut seen = vec![false; vertices];
    let mut order = vec![0_u32];
    seen[0] = true;
    let mut head = 0;
    run.begin();
    while let Some(&vertex) = order.get(head) {
        run.touch(queue + head as u64 * 4, false);
        head += 1;
        // Where the row begins and ends: two words, nearly always of one line.
        run.load(rows + u64::from(vertex) * 8);
        let row = vertex as usize * degree..(vertex as usize + 1) * degree;
        for (at, &end) in row.clone().zip(&edges[row]) {
            run.touch(ends + at as u64 * 4, false);
            run.touch(marks + u64::from(end) * 4, false);
            if !seen[end as usize] {
                seen[end as usize] = true;
                run.touch(marks + u64::from(end) * 4, true);
                run.touch(queue + order.len() as u64 * 4, true);
                order.push(end);
            }
        }
    }
    Some(run.end(order.len() as u64 * degree as u64))
}
