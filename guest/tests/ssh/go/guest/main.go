// Uses the guest with golang.org/x/crypto/ssh, or with github.com/pkg/sftp over it.
//
// Arguments: the port, the file of the private key, the host key's line, the port of a server that gives back what it
// gets, and "ssh" or "sftp".
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

func main() {
	if len(os.Args) != 6 {
		log.Fatal("usage: PORT KEY HOST_KEY ECHO_PORT ssh|sftp")
	}
	client, err := connect(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if os.Args[5] == "sftp" {
		err = files(client)
	} else {
		err = errors.Join(commands(client), terminal(client), forward(client, os.Args[4]))
	}
	if err != nil {
		log.Fatal(err)
	}
}

func connect(port, keyFile, hostKeyLine string) (*ssh.Client, error) {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, err
	}
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(hostKeyLine))
	if err != nil {
		return nil, err
	}
	config := &ssh.ClientConfig{
		User:              "sandbox",
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   ssh.FixedHostKey(hostKey),
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
		Timeout:           time.Minute,
	}
	return ssh.Dial("tcp", "127.0.0.1:"+port, config)
}

func commands(client *ssh.Client) error {
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	var stdout, stderr bytes.Buffer
	session.Stdin, session.Stdout, session.Stderr = strings.NewReader("input"), &stdout, &stderr
	var exit *ssh.ExitError
	if err := session.Run("cat; echo err >&2; exit 7"); !errors.As(err, &exit) || exit.ExitStatus() != 7 {
		return fmt.Errorf("the exit status 7 came as %v", err)
	}
	if stdout.String() != "input" || stderr.String() != "err\n" {
		return fmt.Errorf("the streams gave %q and %q", &stdout, &stderr)
	}
	killed, err := client.NewSession()
	if err != nil {
		return err
	}
	defer killed.Close()
	if err := killed.Run("kill -KILL $$"); !errors.As(err, &exit) || exit.Signal() != "KILL" {
		return fmt.Errorf("the signal KILL came as %v", err)
	}
	return nil
}

func terminal(client *ssh.Client) error {
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	if err := session.RequestPty("vt100", 33, 90, ssh.TerminalModes{ssh.ECHO: 0}); err != nil {
		return err
	}
	output, err := session.Output("stty size; stty -a | grep -o -e '-echo '")
	if err != nil || string(output) != "33 90\r\n-echo \r\n" {
		return fmt.Errorf("the terminal gave %q, %v", output, err)
	}
	return nil
}

func forward(client *ssh.Client, echo string) error {
	there, err := client.Dial("tcp", "127.0.0.1:"+echo)
	if err != nil {
		return err
	}
	if err := echoes(there); err != nil {
		return err
	}
	listener, err := client.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	failed := make(chan error, 1)
	go func() {
		connection, err := listener.Accept()
		if err == nil {
			_, err = io.Copy(connection, connection)
			connection.Close()
		}
		failed <- err
	}()
	back, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	return errors.Join(echoes(back), <-failed)
}

func echoes(connection net.Conn) error {
	defer connection.Close()
	if _, err := io.WriteString(connection, "through a tunnel"); err != nil {
		return err
	}
	half, ok := connection.(interface{ CloseWrite() error })
	if !ok {
		return errors.New("the connection has no halves")
	}
	if err := half.CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(connection)
	if err != nil || string(answer) != "through a tunnel" {
		return fmt.Errorf("the tunnel gave %q, %v", answer, err)
	}
	return nil
}

func files(connection *ssh.Client) error {
	client, err := sftp.NewClient(connection, sftp.UseConcurrentReads(true), sftp.UseConcurrentWrites(true))
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.MkdirAll("directory/below"); err != nil {
		return err
	}
	contents := make([]byte, 5_000_000)
	for index := range contents {
		contents[index] = byte(index * 7 >> 3)
	}
	file, err := client.Create("directory/file")
	if err != nil {
		return err
	}
	// Many requests are under way at a time.
	if _, err := file.ReadFrom(bytes.NewReader(contents)); err != nil {
		return err
	}
	if err := errors.Join(file.Sync(), file.Chmod(0o640), file.Close()); err != nil {
		return err
	}
	if err := client.PosixRename("directory/file", "directory/below/file"); err != nil {
		return err
	}
	when := time.Unix(2_000_000, 0)
	if err := client.Chtimes("directory/below/file", when, when); err != nil {
		return err
	}
	information, err := client.Stat("directory/below/file")
	if err != nil {
		return err
	}
	if information.Size() != int64(len(contents)) || information.Mode() != 0o640 || !information.ModTime().Equal(when) {
		return fmt.Errorf("the file has %v", information)
	}
	file, err = client.Open("directory/below/file")
	if err != nil {
		return err
	}
	defer file.Close()
	var back bytes.Buffer
	if _, err := file.WriteTo(&back); err != nil {
		return err
	}
	if !bytes.Equal(back.Bytes(), contents) {
		return errors.New("the file is not what was sent")
	}
	if err := errors.Join(client.Symlink("below/file", "directory/link"), client.Link("directory/below/file", "directory/hard")); err != nil {
		return err
	}
	if target, err := client.ReadLink("directory/link"); err != nil || target != "below/file" {
		return fmt.Errorf("the link gives %q, %v", target, err)
	}
	var walked []string
	for walker := client.Walk("directory"); walker.Step(); {
		if walker.Err() != nil {
			return walker.Err()
		}
		walked = append(walked, walker.Path())
	}
	if len(walked) != 5 {
		return fmt.Errorf("there are %q", walked)
	}
	if _, err := client.StatVFS("."); err != nil {
		return err
	}
	if err := client.RemoveAll("directory"); err != nil {
		return err
	}
	if _, err := client.Stat("directory"); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("what is gone gives %v", err)
	}
	return nil
}
