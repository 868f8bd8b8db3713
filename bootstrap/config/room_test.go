package config

import "testing"

// What is read is shown as it can be read again.
func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "5GiB": 5 << 30, "1.5 GiB": 3 << 29, "500MB": 500_000_000, "1TiB": 1 << 40, "1B": 1, "5g": 5_000_000_000,
	} {
		s, ok := sizeOf(text)
		if again, known := sizeOf(s.String()); !ok || s != want || !known || again != s {
			t.Errorf("%q: %d, %v; shown as %q, which is %d, %v", text, s, ok, s, again, known)
		}
	}
	for _, text := range []string{"", " ", "5", "1,000", "-1GiB", "GiB", "much", "5 apples", "1e9GiB", "5GiB 6GiB", "99999999EiB"} {
		if s, ok := sizeOf(text); ok {
			t.Errorf("%q is taken as %d", text, s)
		}
	}
	if s := Size(5 << 30).String(); s != "5GiB" {
		t.Errorf("5 GiB are shown as %q", s)
	}
}

func TestPercentages(t *testing.T) {
	for text, want := range map[string]Percent{"0": 0, "0%": 0, "5%": 5, " 99 % ": 99} {
		p, ok := percentOf(text)
		if again, known := percentOf(p.String()); !ok || p != want || !known || again != p {
			t.Errorf("%q: %d, %v; shown as %q", text, p, ok, p)
		}
	}
	for _, text := range []string{"", "%", "5", "100%", "-5%", "5.5%", "300%"} {
		if p, ok := percentOf(text); ok {
			t.Errorf("%q is taken as %d", text, p)
		}
	}
}

// The keys of disk may be given in each way; 0 needs no unit.
func TestDisk(t *testing.T) {
	if !watchesDisk {
		t.Skip("disk is refused on this system")
	}
	for _, c := range []struct {
		text string
		set  []string
		want Disk
	}{
		{"", nil, Disk{}},
		{"disk: {min: 0, minInodes: 0}\n", nil, Disk{}},
		{"disk: {min: 5GiB, minInodes: 5%}\n", nil, Disk{5 << 30, 5}},
		{"disk: {min: 5GiB}\n", []string{"disk.min=1.5 GiB", "disk.minInodes=7%"}, Disk{3 << 29, 7}},
	} {
		got, err := load(t, map[string]string{"config.yaml": good + c.text}, nil, c.set)
		if err != nil || got.Disk != c.want || got.Disk.Watched() == (c.want == Disk{}) {
			t.Errorf("%q %q: %+v, %v", c.text, c.set, got, err)
		}
	}
}
