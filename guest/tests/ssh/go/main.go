// Logs in with golang.org/x/crypto/ssh and checks what the server of the transport's tests answers.
//
// Arguments: the port, the file of the private key, the host key's line, and the names of the key exchange and the
// cipher.
package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"golang.org/x/crypto/ssh"
)

func main() {
	if len(os.Args) != 6 {
		log.Fatal("usage: PORT KEY HOST_KEY KEX CIPHER")
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
		log.Fatal(err)
	}
}

func run(port, keyFile, hostKeyLine, kex, cipher string) error {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return err
	}
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(hostKeyLine))
	if err != nil {
		return err
	}
	config := &ssh.ClientConfig{
		Config: ssh.Config{
			KeyExchanges:   []string{kex},
			Ciphers:        []string{cipher},
			RekeyThreshold: 1 << 20,
		},
		User:              "user",
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   ssh.FixedHostKey(hostKey),
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	}
	client, err := ssh.Dial("tcp", "127.0.0.1:"+port, config)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := ping(client); err != nil {
		return err
	}
	if err := echo(client); err != nil {
		return err
	}
	if err := exit(client); err != nil {
		return err
	}
	return forward(client)
}

func ping(client *ssh.Client) error {
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	output, err := session.Output("ping")
	if err != nil {
		return err
	}
	if string(output) != "pong\n" {
		return fmt.Errorf("ping was answered with %q", output)
	}
	return nil
}

// The keys are exchanged again after each megabyte.
func echo(client *ssh.Client) error {
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	input := make([]byte, 20_000_000)
	for index := range input {
		input[index] = byte(index * 7 >> 3)
	}
	session.Stdin = bytes.NewReader(input)
	hash := sha256.New()
	session.Stdout = hash
	if err := session.Run("echo"); err != nil {
		return err
	}
	if expected := sha256.Sum256(input); !bytes.Equal(hash.Sum(nil), expected[:]) {
		return errors.New("the echo is not what was sent")
	}
	return nil
}

func exit(client *ssh.Client) error {
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	var status *ssh.ExitError
	if err := session.Run("exit 9"); !errors.As(err, &status) || status.ExitStatus() != 9 {
		return fmt.Errorf("the exit status 9 came as %v", err)
	}
	return nil
}

func forward(client *ssh.Client) error {
	connection, err := client.Dial("tcp", "192.0.2.1:7")
	if err != nil {
		return err
	}
	defer connection.Close()
	if _, err := connection.Write([]byte("through a tunnel")); err != nil {
		return err
	}
	answer := make([]byte, 16)
	if _, err := io.ReadFull(connection, answer); err != nil {
		return err
	}
	if string(answer) != "through a tunnel" {
		return fmt.Errorf("the tunnel gave %q", answer)
	}
	return nil
}
