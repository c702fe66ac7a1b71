package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// authority signs the certificates of a folder.
type authority struct {
	folder string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

// client is one that the API server knows by its certificate.
type client struct{ file, name, group string }

// pki writes keys, certificates and kubeconfigs of a one-node cluster into a folder.
func pki(arguments []string) error {
	flags := flag.NewFlagSet("pki", flag.ContinueOnError)
	folder := flags.String("folder", "pki", "where everything is written")
	server := flags.String("server", "", "the API server's URL, as clients call it")
	node := flags.String("node", "", "the node's name")
	serverNames := flags.String("server-names", "", "names and addresses of the API server, by commas")
	nodeNames := flags.String("node-names", "", "names and addresses of the kubelet, by commas")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if err := os.MkdirAll(*folder, 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(*folder, "ca")
	if err != nil {
		return err
	}
	proxy, err := newAuthority(*folder, "front-proxy-ca")
	if err != nil {
		return err
	}
	names := append(strings.Split(*serverNames, ","),
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
	if err := ca.issue("apiserver", pkix.Name{CommonName: "kube-apiserver"}, names); err != nil {
		return err
	}
	if err := ca.issue("kubelet-server", pkix.Name{CommonName: *node}, append(strings.Split(*nodeNames, ","), *node)); err != nil {
		return err
	}
	if err := proxy.issue("front-proxy", pkix.Name{CommonName: "front-proxy"}, nil); err != nil {
		return err
	}
	for _, client := range []client{
		{"admin", "admin", "system:masters"},
		{"apiserver-kubelet", "apiserver-kubelet", "system:masters"},
		{"controller-manager", "system:kube-controller-manager", ""},
		{"scheduler", "system:kube-scheduler", ""},
		{"kube-proxy", "system:kube-proxy", ""},
		{"kubelet", "system:node:" + *node, "system:nodes"},
	} {
		if err := ca.admit(client, *server); err != nil {
			return err
		}
	}
	return serviceAccountKeys(*folder)
}

func newAuthority(folder, name string) (authority, error) {
	key, err := newKey(folder, name)
	if err != nil {
		return authority{}, err
	}
	template := certificate(pkix.Name{CommonName: name}, 10)
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, err
	}
	return authority{folder, cert, key}, write(folder, name+".crt", "CERTIFICATE", der)
}

// issue writes NAME.crt and NAME.key.
func (a authority) issue(file string, subject pkix.Name, names []string) error {
	key, err := newKey(a.folder, file)
	if err != nil {
		return err
	}
	template := certificate(subject, 1)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	for _, name := range names {
		if address := net.ParseIP(name); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	return write(a.folder, file+".crt", "CERTIFICATE", der)
}

// admit issues a client's certificate, and writes the kubeconfig that uses it.
func (a authority) admit(who client, server string) error {
	subject := pkix.Name{CommonName: who.name}
	if who.group != "" {
		subject.Organization = []string{who.group}
	}
	if err := a.issue(who.file, subject, nil); err != nil {
		return err
	}
	encoded := make(map[string]string, 3)
	for _, file := range []string{"ca.crt", who.file + ".crt", who.file + ".key"} {
		bytes, err := os.ReadFile(filepath.Join(a.folder, file))
		if err != nil {
			return err
		}
		encoded[file] = base64.StdEncoding.EncodeToString(bytes)
	}
	text := fmt.Sprintf(kubeconfig, server, encoded["ca.crt"], encoded[who.file+".crt"], encoded[who.file+".key"])
	return os.WriteFile(filepath.Join(a.folder, who.file+".conf"), []byte(text), 0o600)
}

// serviceAccountKeys writes the pair by which tokens are signed and checked.
func serviceAccountKeys(folder string) error {
	key, err := newKey(folder, "service-account")
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return write(folder, "service-account.pub", "PUBLIC KEY", der)
}

func certificate(subject pkix.Name, years int) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      subject,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(years, 0, 0),
	}
}

func newKey(folder, name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, write(folder, name+".key", "EC PRIVATE KEY", der)
}

func write(folder, file, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(folder, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

const kubeconfig = `apiVersion: v1
kind: Config
clusters:
- name: weir
  cluster: {server: "%s", certificate-authority-data: %s}
users:
- name: user
  user: {client-certificate-data: %s, client-key-data: %s}
contexts:
- name: weir
  context: {cluster: weir, user: user}
current-context: weir
`
