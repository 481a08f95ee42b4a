//! One line per figure.

/// What a figure of the guest has to reach.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    /// So many times sshd's at most.
    AtMost(f64),
    /// So many times sshd's at least.
    AtLeast(f64),
    /// At most so much, whatever sshd has.
    Value(f64),
}

/// A figure of both.
pub(crate) struct Table {
    work: String,
    unit: &'static str,
    guest: f64,
    sshd: f64,
    bar: Option<Bar>,
}

impl Table {
    /// Of the samples of the guest and of sshd.
    pub(crate) fn new(work: &str, unit: &'static str, samples: &[Vec<f64>; 2], bar: Option<Bar>) -> Self {
        let [guest, sshd] = samples.each_ref().map(|samples| median(samples));
        Self { work: work.to_owned(), unit, guest, sshd, bar }
    }

    pub(crate) fn print(&self) {
        let ratio = self.guest / self.sshd;
        let (bar, is_met) = match self.bar {
            None => (String::new(), None),
            Some(Bar::AtMost(most)) => (format!("<= {most}"), Some(ratio <= most)),
            Some(Bar::AtLeast(least)) => (format!(">= {least}"), Some(ratio >= least)),
            Some(Bar::Value(most)) => (format!("<= {most} {}", self.unit), Some(self.guest <= most)),
        };
        let verdict = match is_met {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        println!(
            "{:34}{:10} {:9.2} {:9.2} {ratio:7.2}  {bar:12} {verdict}",
            self.work, self.unit, self.guest, self.sshd
        );
    }
}

pub(crate) fn header() {
    println!("{:34}{:10} {:>9} {:>9} {:>7}  {:12}", "median", "unit", "guest", "sshd", "ratio", "bar");
}

fn median(samples: &[f64]) -> f64 {
    let mut samples = samples.to_vec();
    samples.sort_unstable_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
