package agent

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"math/big"
)

// keyBits is the size of an agent's key (RSAFileKeyManager.cs, CreateKey).
const keyBits = 2048

// A keyFile is .credentials_rsaparams (IRSAKeyManager.cs, RSAParametersSerializable): .NET's
// RSAParameters, each number big-endian and of its full length. .NET's ImportParameters refuses one
// whose leading zeros are missing, which would meet one key in some forty.
type keyFile struct {
	ContainerName string // "" and false: the key is in this file, and in no store of Windows
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

// newKey makes an agent's key.
func newKey() (keyFile, error) {
	k, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return keyFile{}, err
	}
	return keyFileOf(k), nil
}

func keyFileOf(k *rsa.PrivateKey) keyFile {
	whole, half := keyBits/8, keyBits/16
	number := func(n *big.Int, length int) []byte { return n.FillBytes(make([]byte, length)) }
	return keyFile{
		D:        number(k.D, whole),
		DP:       number(k.Precomputed.Dp, half),
		DQ:       number(k.Precomputed.Dq, half),
		Exponent: big.NewInt(int64(k.E)).Bytes(),
		InverseQ: number(k.Precomputed.Qinv, half),
		Modulus:  number(k.N, whole),
		P:        number(k.Primes[0], half),
		Q:        number(k.Primes[1], half),
	}
}

// A PublicKey is what the server is told of an agent's key: numbers as in keyFile, in base64
// (TaskAgentPublicKey).
type PublicKey struct {
	Exponent string `json:"exponent"`
	Modulus  string `json:"modulus"`
}

func (k keyFile) public() PublicKey {
	return PublicKey{base64.StdEncoding.EncodeToString(k.Exponent), base64.StdEncoding.EncodeToString(k.Modulus)}
}
