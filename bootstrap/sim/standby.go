package sim

// SetStandby says whether a VM stands in a standby pool, in IMDS's words: "true", "false", or "" elsewhere.
func (s *Sim) SetStandby(vm, word string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.scenario.VMs {
		if s.scenario.VMs[i].Name == vm {
			s.scenario.VMs[i].Standby = word
		}
	}
}
