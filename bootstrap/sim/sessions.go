package sim

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // what the server uses
	"net/http"
	"strconv"
	"time"
)

// sessions and messages are what an agent does with its own token: hold a session, wait for jobs. A
// session brings the agent's capabilities along, as they are by then
// (TaskAgentSession.systemCapabilities).
func (c *call) sessions(p *pool, id string) {
	var b struct {
		OwnerName          string            `json:"ownerName"`
		SystemCapabilities map[string]string `json:"systemCapabilities"`
	}
	if c.r.Method == http.MethodPost && !c.read(&b) {
		return
	}
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	a := c.agent
	if a == nil {
		c.refuse(
			http.StatusForbidden,
			"AccessDeniedException",
			"Access denied: sessions are for the agents of the pool.",
		)
		return
	}
	if !p.holds(a) {
		c.noAgent(p, strconv.Itoa(a.id))
		return
	}
	switch c.r.Method {
	case http.MethodPost:
		if a.online() {
			c.refuse(
				http.StatusConflict,
				"TaskAgentSessionConflictException",
				"The agent "+a.name+" already has an active session.",
			)
			return
		}
		a.session, a.seen = guid(), time.Now()
		if b.SystemCapabilities != nil {
			a.caps = b.SystemCapabilities
		}
		key, err := a.sealSession()
		if err != nil {
			c.refuse(http.StatusBadRequest, "VssServiceException", "The agent's key cannot be used: "+err.Error())
			return
		}
		reply(c.w, http.StatusOK, object{"sessionId": a.session, "ownerName": b.OwnerName,
			"encryptionKey": object{"encrypted": true, "value": b64(key)}})
	case http.MethodDelete:
		if a.session == id {
			a.session = ""
			c.sim.settleJob(a)
		}
		c.w.WriteHeader(http.StatusNoContent)
	}
}

func (p *pool) holds(a *agent) bool {
	for _, o := range p.agents {
		if o == a {
			return true
		}
	}
	return false
}

func (c *call) messages(p *pool) {
	a, session := c.agent, c.r.URL.Query().Get("sessionId")
	c.sim.mu.Lock()
	if a == nil || !p.holds(a) || a.session == "" || a.session != session {
		c.sim.mu.Unlock()
		c.refuse(http.StatusBadRequest, "TaskAgentSessionExpiredException", "The session is not valid.")
		return
	}
	a.listening++
	a.seen = time.Now()
	c.sim.mu.Unlock()
	end := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var message object
	for waiting := true; waiting && message == nil; {
		select {
		case <-end:
			waiting = false
		case <-c.r.Context().Done():
			waiting = false
		case <-tick.C:
			c.sim.mu.Lock()
			c.sim.assign()
			if waiting = p.holds(a) &&
				a.session == session; waiting { // removed or taken over meanwhile: the next poll is refused
				message = a.message()
			}
			c.sim.mu.Unlock()
		}
	}
	c.sim.mu.Lock()
	a.listening--
	a.seen = time.Now()
	c.sim.mu.Unlock()
	if message != nil {
		reply(c.w, http.StatusOK, message)
		return
	}
	c.w.WriteHeader(http.StatusAccepted)
}

// sealSession makes the key that the messages of a session are encrypted with, and seals it with the
// agent's public one (MessageListener.cs, GetMessageDecryptor: RSA with OAEP and SHA-1).
func (a *agent) sealSession() ([]byte, error) {
	key, err := a.key.rsa()
	if err != nil {
		return nil, err
	}
	a.secret = make([]byte, 32)
	if _, err := rand.Read(a.secret); err != nil {
		return nil, err
	}
	return rsa.EncryptOAEP(sha1.New(), rand.Reader, key, a.secret, nil)
}

// sealed is a message's body, encrypted as the agent decrypts it: AES in CBC mode with PKCS #7.
func (a *agent) sealed(body []byte) (iv, text []byte, err error) {
	block, err := aes.NewCipher(a.secret)
	if err != nil {
		return nil, nil, err
	}
	iv = make([]byte, aes.BlockSize)
	if _, err := rand.Read(iv); err != nil {
		return nil, nil, err
	}
	pad := aes.BlockSize - len(body)%aes.BlockSize
	text = append(body, bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(text, text)
	return iv, text, nil
}
