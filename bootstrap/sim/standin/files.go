package standin

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // what the agent uses
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// This file reads what config.sh leaves, or who stands in for it, as strictly as the listener does and
// stricter: what it does not know is refused, so that a spelling mistake shows. Sources:
// microsoft/azure-pipelines-agent at 42bde98, the files that are named.

// readJSON reads a file of the agent's: an object with all the members of need, and besides of may alone.
func readJSON(name string, need, may []string, into any) error {
	data, err := os.ReadFile(name) //nolint:gosec // of this folder
	if err != nil {
		return err
	}
	data = bytes.TrimPrefix(data, []byte(mark))
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, n := range need {
		if _, there := all[n]; !there {
			return fmt.Errorf("%s: member '%s' was not found", name, n)
		}
	}
	for n := range maps.Keys(all) {
		if !slices.Contains(need, n) && !slices.Contains(may, n) {
			return fmt.Errorf("%s: could not find member '%s' on object", name, n)
		}
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// readSettings reads .agent (ConfigurationStore.cs, AgentSettings). What each kind of target must have
// is what the listener and its jobs read of it.
func readSettings() (s settings, err error) {
	kinds := []string{
		"poolName", "projectId", "projectName", "collectionName", "deploymentGroupId", "environmentId", "environmentName",
		"environmentVMResourceId",
	}
	need := []string{"acceptTeeEula", "agentId", "agentName", "poolId", "serverUrl", "workFolder"}
	if err := readJSON(".agent", need, kinds, &s); err != nil {
		return s, err
	}
	u, err := url.Parse(s.ServerURL)
	switch {
	case err != nil || u.Host == "":
		return s, errors.New(".agent: serverUrl is no URL")
	case s.AgentID <= 0 || s.PoolID <= 0 || s.AgentName == "" || s.WorkFolder == "":
		return s, errors.New(".agent: an ID or a name is missing")
	case s.EnvironmentID > 0 && (s.EnvironmentVMResourceID <= 0 || s.EnvironmentName == "" || s.ProjectID == "" || s.ProjectName == ""):
		return s, errors.New(".agent: what an environment's agent has is missing")
	case s.DeploymentGroupID > 0 && (s.ProjectID == "" || s.PoolName == ""):
		return s, errors.New(".agent: what a deployment group's agent has is missing")
	case s.EnvironmentID == 0 && s.DeploymentGroupID == 0 && (s.PoolName == "" || s.ProjectID != ""):
		return s, errors.New(".agent: it is none of a pool's")
	}
	return s, nil
}

// credentials are .credentials (CredentialData.cs).
type credentials struct {
	Scheme string            `json:"scheme"`
	Data   map[string]string `json:"data"`
}

// readCredentials reads .credentials; those of the scheme OAuth have what OAuthCredential.cs wants.
func readCredentials() (c credentials, err error) {
	if err := readJSON(".credentials", []string{"scheme", "data"}, nil, &c); err != nil || c.Scheme != "OAuth" {
		return c, err
	}
	for _, name := range []string{"clientId", "authorizationUrl", "oauthEndpointUrl"} {
		if c.Data[name] == "" {
			return c, errors.New(".credentials: " + name + " is missing")
		}
	}
	if len(c.Data) != 3 {
		return c, fmt.Errorf(".credentials: more than an OAuth credential has: %v", slices.Sorted(maps.Keys(c.Data)))
	}
	return c, nil
}

// checkCertificates looks whether what .certificates names is there (AgentCertificateManager.cs,
// LoadCertificateSettings).
func checkCertificates() error {
	var c struct{ CACert string }
	err := readJSON(".certificates", []string{"skipServerCertValidation", "caCert"}, nil, &c)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && !filepath.IsAbs(c.CACert) {
		err = errors.New(".certificates: caCert is no whole path")
	}
	if err == nil {
		_, err = os.Stat(c.CACert)
	}
	return err
}

// rsaParams are .credentials_rsaparams (IRSAKeyManager.cs, RSAParametersSerializable).
type rsaParams struct {
	ContainerName string
	UseCng        bool
	D             []byte `json:"d"`
	DP            []byte `json:"dp"`
	DQ            []byte `json:"dq"`
	Exponent      []byte `json:"exponent"`
	InverseQ      []byte `json:"inverseQ"`
	Modulus       []byte `json:"modulus"`
	P             []byte `json:"p"`
	Q             []byte `json:"q"`
}

const keyFile = ".credentials_rsaparams"

// loadKey keeps a key that is there already, as the real one does (RSAFileKeyManager.cs). What .NET's
// ImportParameters does not take is refused: numbers of other lengths, and such as do not fit each other.
func loadKey(create bool) (*rsa.PrivateKey, error) {
	var p rsaParams
	members := []string{"ContainerName", "UseCng", "d", "dp", "dq", "exponent", "inverseQ", "modulus", "p", "q"}
	switch err := readJSON(keyFile, members, nil, &p); {
	case err == nil:
		return p.key()
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	case !create:
		return nil, errors.New("RSA key file " + keyFile + " was not found")
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	full := func(n *big.Int, length int) []byte { return n.FillBytes(make([]byte, length)) }
	pre := k.Precomputed
	return k, writeJSON(keyFile, rsaParams{
		D: full(k.D, 256), DP: full(pre.Dp, 128), DQ: full(pre.Dq, 128), Exponent: []byte{1, 0, 1}, InverseQ: full(pre.Qinv, 128),
		Modulus: full(k.N, 256), P: full(k.Primes[0], 128), Q: full(k.Primes[1], 128),
	})
}

func (p rsaParams) key() (*rsa.PrivateKey, error) {
	invalid := errors.New("the specified RSA parameters are not valid") // System.Security.Cryptography
	half := [][]byte{p.P, p.Q, p.DP, p.DQ, p.InverseQ}
	if len(p.Modulus) != 256 || len(p.D) != len(p.Modulus) || len(p.Exponent) == 0 ||
		slices.ContainsFunc(half, func(n []byte) bool { return len(n) != 128 }) {
		return nil, invalid
	}
	n := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
	k := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: n(p.Modulus), E: int(n(p.Exponent).Int64())},
		D:         n(p.D),
		Primes:    []*big.Int{n(p.P), n(p.Q)},
	}
	if err := k.Validate(); err != nil {
		return nil, invalid
	}
	k.Precompute()
	pre := k.Precomputed
	if pre.Dp.Cmp(n(p.DP)) != 0 || pre.Dq.Cmp(n(p.DQ)) != 0 || pre.Qinv.Cmp(n(p.InverseQ)) != 0 || p.UseCng || p.ContainerName != "" {
		return nil, invalid
	}
	return k, nil
}

// A sealedKey is what the messages of a session are encrypted with (TaskAgentSessionKey).
type sealedKey struct {
	Encrypted bool
	Value     []byte
}

// open decrypts a message's body (MessageListener.cs, DecryptMessage).
func (s sealedKey) open(iv []byte, body string) (string, error) {
	if len(s.Value) == 0 || len(iv) == 0 {
		return body, nil
	}
	secret := s.Value
	if s.Encrypted {
		key, err := loadKey(false)
		if err == nil {
			secret, err = rsa.DecryptOAEP(sha1.New(), rand.Reader, key, s.Value, nil)
		}
		if err != nil {
			return "", err
		}
	}
	text, err := base64.StdEncoding.DecodeString(body)
	if err == nil {
		text, err = decrypt(secret, iv, text)
	}
	return string(text), err
}

// encrypt and decrypt are .NET's Aes as it is by default: CBC, PKCS #7.
func encrypt(key, iv, text []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	pad := aes.BlockSize - len(text)%aes.BlockSize
	text = append(slices.Clone(text), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(text, text)
	return text, nil
}

func decrypt(key, iv, text []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	if len(text) == 0 || len(text)%aes.BlockSize != 0 || len(iv) != aes.BlockSize {
		return nil, errors.New("the input data is not a complete block")
	}
	text = slices.Clone(text)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(text, text)
	pad := int(text[len(text)-1])
	if pad == 0 || pad > aes.BlockSize || !bytes.HasSuffix(text, bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, errors.New("padding is invalid and cannot be removed")
	}
	return text[:len(text)-pad], nil
}

// The credential store of Linux (LinuxAgentCredentialStore.cs): a password under the machine's ID.
const (
	storeFile   = ".credential_store"
	storePrefix = "VSTS_AGENT_PROXY_"
)

var storeIV = []byte{0x36, 0x64, 0x37, 0x33, 0x36, 0x36, 0x37, 0x34, 0x37, 0x36, 0x37, 0x33, 0x37, 0x34, 0x37, 0x33}

func storeKey() []byte {
	id, _, _ := strings.Cut(fileText("/etc/machine-id"), "\n")
	if len(id) != 32 {
		id = "5f767374735f6167656e745f63726564"
	}
	return []byte(id)
}

type stored struct {
	UserName string `json:"userName"`
	Password string `json:"password"`
}

func storeProxy(user, password string) error {
	hidden, err := encrypt(storeKey(), storeIV, []byte(password))
	if err != nil {
		return err
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	key := fmt.Sprintf("%X-%X-%X-%X-%X", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	if err := writeJSON(storeFile, map[string]stored{storePrefix + key: {user, base64.StdEncoding.EncodeToString(hidden)}}); err != nil {
		return err
	}
	return os.WriteFile(".proxycredentials", []byte(key), 0o600)
}

func storedProxy(key string) (*url.Userinfo, error) {
	all := map[string]stored{}
	if err := readJSON(storeFile, []string{storePrefix + key}, nil, &all); err != nil {
		return nil, err
	}
	is := all[storePrefix+key]
	hidden, err := base64.StdEncoding.DecodeString(is.Password)
	if err == nil {
		hidden, err = decrypt(storeKey(), storeIV, hidden)
	}
	return url.UserPassword(is.UserName, string(hidden)), err
}

// sameOrigin is an address with the scheme, host and port of another (ConfigurationManager.cs).
func sameOrigin(address, as string) string {
	u, err := url.Parse(address)
	to, err2 := url.Parse(as)
	if err != nil || err2 != nil {
		return address
	}
	u.Scheme, u.Host = to.Scheme, to.Host
	return u.String()
}
