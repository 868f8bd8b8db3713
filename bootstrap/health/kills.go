package health

// kills are the processes of the agent's service that were killed for want of memory.
type kills struct {
	total  int // since the daemon started
	seen   int // the service's count at the last look
	looked bool
}

// OOMKills takes the service's count and returns how many are new. The count of the first look is
// of before this daemon; one that is smaller than before is of a service that was started anew.
func (l *Live) OOMKills(count int) (more int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := &l.kills
	if count < k.seen {
		k.seen = 0
	}
	if k.looked {
		more = count - k.seen
	}
	k.total, k.seen, k.looked = k.total+more, count, true
	return more
}
